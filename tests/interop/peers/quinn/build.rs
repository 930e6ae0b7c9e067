//! The engine's version for `features`, from the lock file.

fn main() {
    println!("cargo:rerun-if-changed=Cargo.lock");
    let lock = std::fs::read_to_string("Cargo.lock").expect("Cargo.lock");
    let after = lock.split("name = \"quinn\"\nversion = \"").nth(1).expect("quinn is locked");
    println!("cargo:rustc-env=QUINN_VERSION={}", after.split('"').next().unwrap());
}
