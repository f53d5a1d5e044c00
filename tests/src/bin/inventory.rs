//! Prints what is on the host, for a comparison before and after a whole test run.

use std::io::Write;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(tests::inventory::Inventory::take().text().as_bytes())
}
