//! How far long work is: on standard error, and only on a terminal.

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

/// A bar of a thousand steps, and words behind it.
pub(in crate::cli) fn permille() -> ProgressBar {
    bar(1_000, "{bar:40} {percent}%, {elapsed} {msg}")
}

/// A bar of so many bytes.
pub(in crate::cli) fn bytes(total: u64) -> ProgressBar {
    bar(total, "{bar:40} {bytes}/{total_bytes}, {bytes_per_sec}, {elapsed} {msg}")
}

/// A bar of so many keys.
pub(in crate::cli) fn keys(total: u64) -> ProgressBar {
    bar(total, "{bar:40} {pos}/{len} keys, {elapsed} {msg}")
}

fn bar(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(length).with_finish(ProgressFinish::AndClear);
    // The template is fixed; if indicatif ever refuses it, its default will do.
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
