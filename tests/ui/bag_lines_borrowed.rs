use sprang::bag;

fn main() -> sprang::Result<()> {
    let _words = bag::read_text("*.txt")?.flat_map(|line| line.split(' '));
    Ok(())
}
