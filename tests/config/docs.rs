//! The table of settings in the documentation matches the schema.

use sprang::config;
use std::fs;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");

/// The page up to the table, the table, and the rest.
fn parts(page: &str) -> (&str, &str, &str) {
    let start = page.find("<!-- settings: begin").unwrap();
    let start = start + page[start..].find('\n').unwrap() + 1;
    let end = page.find("<!-- settings: end -->").unwrap();
    (&page[..start], &page[start..end], &page[end..])
}

#[test]
fn the_table_in_the_docs_is_up_to_date() {
    let page = fs::read_to_string(PAGE).unwrap();
    let remedy = "write it again: cargo test --test config -- --ignored write_the_table_in_the_docs";
    assert_eq!(parts(&page).1, config::table(), "{remedy}");
}

#[test]
#[ignore = "writes the table; not a test"]
fn write_the_table_in_the_docs() {
    let page = fs::read_to_string(PAGE).unwrap();
    let (before, _, after) = parts(&page);
    fs::write(PAGE, format!("{before}{}{after}", config::table())).unwrap();
}
