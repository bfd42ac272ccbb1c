//! Counters, histograms and log lines; per core, merged on scrape.
