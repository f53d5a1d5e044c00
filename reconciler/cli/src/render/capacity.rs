//! What a host has for containers.

use specs::capacity::{Capacity, Granted, Stock};

use super::paint::{Paint, Tone};
use super::table::{Cell, Grid};
use super::{escape, human};

/// From this part on, in thousandths, what is gone is worth a look.
const TIGHT_PERMILLE: u64 = 900;

/// Returns one row a resource, then what follows.
pub(crate) fn capacity(told: &Capacity, paint: Paint) -> String {
    let mut grid = Grid::new(&["RESOURCE", "TOTAL", "GONE", "LEFT", "GONE%", "NO LIMIT"]);
    let count = |count: u64| count.to_string();
    let processors = |milli: u64| format!("{}.{:03}", milli / 1000, milli % 1000);
    let [memory, cpu, pids, disk, ranges, addresses] = told.parts();
    grid.push(granted(memory, &told.memory, human::bytes));
    grid.push(granted(cpu, &told.cpu, processors));
    grid.push(granted(pids, &told.pids, count));
    grid.push(stock(disk, told.disk.as_ref(), human::bytes));
    grid.push(stock(ranges, Some(&told.id_ranges), count));
    grid.push(stock(addresses, Some(&told.addresses), count));
    let mut out = grid.take(paint);
    let isolated = told.more_containers.min(told.addresses.left);
    out.push_str(&format!(
        "\n{} containers are wanted; {} more have a range of ids, {isolated} of them an address \
         too\n",
        told.containers, told.more_containers
    ));
    if let Some(tightest) = &told.tightest {
        out.push_str(&format!("the tightest: {}\n", escape::line(tightest)));
    }
    out
}

fn part(permille: Option<u64>) -> Cell {
    let Some(permille) = permille else {
        return Cell::plain("-");
    };
    let tone = if permille >= TIGHT_PERMILLE {
        Tone::Warn
    } else {
        Tone::Plain
    };
    Cell::new(tone, format!("{}.{}", permille / 10, permille % 10))
}

fn granted(
    (name, permille): (&str, Option<u64>),
    of: &Granted,
    show: impl Fn(u64) -> String,
) -> Vec<Cell> {
    vec![
        Cell::plain(name),
        Cell::option(of.total.map(&show)),
        Cell::plain(show(of.granted)),
        Cell::option(of.total.map(|total| show(total.saturating_sub(of.granted)))),
        part(permille),
        Cell::plain(of.unlimited.to_string()),
    ]
}

fn stock(
    (name, permille): (&str, Option<u64>),
    of: Option<&Stock>,
    show: impl Fn(u64) -> String,
) -> Vec<Cell> {
    vec![
        Cell::plain(name),
        Cell::option(of.map(|of| show(of.total))),
        Cell::option(of.map(|of| show(of.total.saturating_sub(of.left)))),
        Cell::option(of.map(|of| show(of.left))),
        part(permille),
        Cell::plain("-"),
    ]
}
