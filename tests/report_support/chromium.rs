//! A headless Chromium that looks at a page: pictures, and measurements of what it rendered.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

/// The reader's colour scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Dark,
    Light,
}

/// One figure as rendered.
#[derive(Clone, Debug, Deserialize)]
pub struct Figure {
    pub id: String,
    pub width: f64,
    pub height: f64,
    /// Shapes and lines with a size.
    pub shapes: usize,
    /// Class and contrast to the page of each kind of line and surface.
    pub colors: Vec<(String, f64)>,
    pub texts: Vec<Label>,
}

/// A text of a figure.
#[derive(Clone, Debug, Deserialize)]
pub struct Label {
    pub words: String,
    /// Height of its font on the screen.
    pub font: f64,
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
    /// Whether it is within its figure.
    pub inside: bool,
    pub contrast: f64,
}

/// The page as rendered.
#[derive(Clone, Debug, Deserialize)]
pub struct Page {
    pub figures: Vec<Figure>,
    /// The least contrast of text outside figures, and the text.
    pub prose: (f64, String),
    /// Whether the page is wider than its window.
    pub overflows: bool,
    /// What the page fetched; only itself.
    pub fetched: usize,
    pub background: String,
}

/// How long Chromium may take for one page.
const LIMIT: Duration = Duration::from_secs(90);

/// Starts Chromium on `page` with `options`; what it printed.
fn chromium(page: &Path, scheme: Scheme, width: u32, options: &[&str]) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = profile.path().join("stdout");
    let number = match scheme {
        Scheme::Dark => 0,
        Scheme::Light => 1,
    };
    let mut child = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .args([
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--virtual-time-budget=5000",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--blink-settings=preferredColorScheme={number}"))
        .arg(format!("--window-size={width},900"))
        .args(options)
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&output).unwrap())
        .stderr(std::fs::File::create(profile.path().join("stderr")).unwrap())
        .spawn()
        .expect("chromium is not installed: run scripts/setup");
    let deadline = std::time::Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if std::time::Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("chromium did not end within {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let errors = std::fs::read_to_string(profile.path().join("stderr")).unwrap();
    assert!(status.success(), "chromium: {status}: {errors}");
    std::fs::read_to_string(output).unwrap()
}

/// Renders a copy of the page, which must have ended with its closing tags, and measures it.
///
/// The copy carries a script that measures, and so not the page's policy against scripts.
pub fn measure(page: &Path, scheme: Scheme, width: u32) -> Page {
    let text = std::fs::read_to_string(page).unwrap();
    let policy = text
        .find("<meta http-equiv=\"Content-Security-Policy\"")
        .expect("a policy");
    let end = policy + text[policy..].find('>').unwrap() + 1;
    let (head, rest) = (&text[..policy], &text[end..]);
    let body_end = rest.rfind("</body>").expect("a whole page");
    let script = include_str!("measure.js");
    let copy = format!(
        "{head}{}<script>{script}</script>{}",
        &rest[..body_end],
        &rest[body_end..]
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("measured.html");
    std::fs::write(&path, copy).unwrap();
    let dom = chromium(&path, scheme, width, &["--dump-dom"]);
    let begin =
        dom.find("<pre id=\"measured\">").expect("the script ran") + "<pre id=\"measured\">".len();
    let found = &dom[begin..begin + dom[begin..].find("</pre>").unwrap()];
    let found = found
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    serde_json::from_str(&found).unwrap_or_else(|error| panic!("{error}: {found}"))
}
