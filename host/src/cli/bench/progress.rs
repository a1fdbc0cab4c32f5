//! How far a phase is: a bar on standard error with a figure each second. Without a terminal only
//! the words.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::recorder::Live;
use super::schedule::End;
use crate::cli::output;

const PERIOD: Duration = Duration::from_secs(1);

/// Watches a phase until it is dropped. Never ends by itself.
pub(super) async fn watch(phase: &str, end: End, live: &Live) {
    output::say(phase);
    let whole = match end {
        End::After(time) => time.as_millis() as u64,
        End::Operations(count) => count,
    };
    let bar = Bar(ProgressBar::new(whole));
    let style = ProgressStyle::with_template("{bar:40} {percent} %, {msg}");
    // The template is fixed; if indicatif ever refuses it, its default will do.
    bar.0.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let (started, mut before) = (Instant::now(), 0);
    loop {
        tokio::time::sleep(PERIOD).await;
        let (done, failed) = live.counts();
        bar.0.set_message(format!("{} operations per second, {failed} failed", done - before));
        bar.0.set_position(match end {
            End::After(_) => started.elapsed().as_millis() as u64,
            End::Operations(_) => done + failed,
        });
        before = done;
    }
}

/// A bar that leaves no trace.
struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
