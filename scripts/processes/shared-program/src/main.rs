#[used]
#[unsafe(link_section = ".init_array")]
static REGISTER: extern "C" fn() = shared::register;

fn main() {
    shared::run(2);
    println!("checked");
}
