fn main() {
    program::run();
    println!("checked");
}
