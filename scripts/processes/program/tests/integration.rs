#[test]
fn integration_test() {
    program::run();
}
