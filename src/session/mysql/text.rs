//! TEMP
#[derive(Clone, Copy)]
pub struct LexMode {
    pub ansi_quotes: bool,
    pub no_backslash_escapes: bool,
    pub multibyte_unsafe: bool,
}
pub fn is_show_warnings(_: &[u8]) -> bool {
    false
}
pub fn substitute(_: &[u8], _: LexMode, _: i64, _: u64) -> Option<Vec<u8>> {
    None
}
