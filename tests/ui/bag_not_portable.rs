use sprang::bag;

struct Point {
    x: f64,
}

fn main() -> sprang::Result<()> {
    let points = bag::from_sequence(0..10, 2).map(|x| Point { x: f64::from(x) });
    assert_eq!(points.map(|point| point.x).sum().compute()?, 45.0);
    points.compute()?;
    Ok(())
}
