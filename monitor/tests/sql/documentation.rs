//! The generated reference page.

/// Set `UPDATE_DOCS=1` to write it anew.
#[test]
fn the_function_reference_is_fresh() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/sql-functions.md");
    let wanted = monitor::sql::functions::render::markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/reference/sql-functions.md is stale: run this test with UPDATE_DOCS=1");
}
