//! The pages in `docs`: every line of code in a table is also in a program that is compiled and
//! run.

/// The code in backticks of a table cell.
fn code_of(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The programs of a page.
fn programs_of(page: &str) -> String {
    let mut programs = String::new();
    let mut is_program = false;
    for line in page.lines() {
        match line.trim() {
            "```rust" => is_program = true,
            "```" => is_program = false,
            code if is_program => programs.extend([code, "\n"]),
            _ => {}
        }
    }
    programs
}

#[test]
fn every_rust_line_for_those_who_come_from_dask_stands_in_a_program() {
    let page = include_str!("../docs/from_dask.md");
    let programs = programs_of(page);
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).collect();
    assert!(rows.len() > 60, "the tables were not found");
    for row in rows.into_iter().filter(|row| *row != "| Dask | sprang |") {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [_, rust] = cells[..] else { panic!("not two cells: {row}") };
        let lines = code_of(rust);
        assert!(!lines.is_empty() || rust.contains("not needed"), "no code: {row}");
        for line in lines {
            assert!(programs.contains(line), "in no program: {line}");
        }
    }
}
