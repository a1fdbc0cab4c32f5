//! A drawing of latency distributions: latency over percentiles, on an axis on which 90, 99 and
//! 99.9 percent are equally far apart, as HdrHistogram's plotter has it.

use std::fmt::Write as _;
use std::path::Path;

use super::latency::Latency;
use crate::cli::failure::Failure;

/// The drawing, and within it the frame from its top left, in pixels.
const SIZE: [f64; 2] = [960.0, 480.0];
const FRAME: [f64; 4] = [70.0, 20.0, 620.0, 410.0];
const COLOURS: [&str; 8] =
    ["#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#17becf", "#8c564b", "#7f7f7f"];
/// How many points a decade of percentiles has.
const POINTS: usize = 25;
/// 99.9999 percent at most.
const DECADES_MAX: usize = 6;

/// Writes the drawing of `lines`.
pub(super) fn write(path: &Path, lines: &[(String, &Latency)]) -> Result<(), Failure> {
    std::fs::write(path, draw(lines)).map_err(|error| {
        Failure::refused(format!("cannot write the drawing to {}: {error}", path.display()))
    })
}

fn draw(lines: &[(String, &Latency)]) -> String {
    let most = lines.iter().map(|(_, latency)| latency.count()).max().unwrap_or(0);
    let decades = (most.max(10).ilog10() as usize).min(DECADES_MAX);
    let highest = lines.iter().map(|(_, latency)| at(latency, decades as f64)).max().unwrap_or(1);
    let top = round_up(highest.max(1) as f64);
    let [left, up, width, height] = FRAME;
    let x = |decade: f64| left + width * decade / decades as f64;
    let y = |micros: f64| up + height * (1.0 - micros / top);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        SIZE[0], SIZE[1]
    );
    let mut add = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    for decade in 0..=decades {
        let at = x(decade as f64);
        let name = match decade {
            0 => "0 %".to_owned(),
            1 => "90 %".to_owned(),
            2 => "99 %".to_owned(),
            more => format!("99.{} %", "9".repeat(more - 2)),
        };
        add(grid([at, up, at, up + height]));
        add(words([at, up + height + 18.0], "middle", &name));
    }
    for step in 0..=5 {
        let micros = top * f64::from(step) / 5.0;
        add(grid([left, y(micros), left + width, y(micros)]));
        add(words([left - 8.0, y(micros) + 4.0], "end", &format!("{}", micros / 1_000.0)));
    }
    add(words([left, SIZE[1] - 12.0], "start", "latency in milliseconds by percentile"));
    for (number, (name, latency)) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let mut points = String::new();
        for point in 0..=decades * POINTS {
            let decade = point as f64 / POINTS as f64;
            // A string takes everything.
            let _ = write!(points, "{:.1},{:.1} ", x(decade), y(at(latency, decade) as f64));
        }
        add(format!("<polyline fill=\"none\" stroke=\"{colour}\" points=\"{points}\"/>"));
        let row = up + 14.0 + 18.0 * number as f64;
        let beside = left + width + 16.0;
        add(format!(
            "<rect x=\"{beside}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>",
            row - 10.0
        ));
        add(words([beside + 18.0, row], "start", name));
    }
    svg.push_str("</svg>\n");
    svg
}

/// The latency at so many decades: 1 is 90 percent, 2 is 99.
fn at(latency: &Latency, decade: f64) -> u64 {
    latency.quantile_us(1.0 - 10_f64.powf(-decade))
}

/// The next of 1, 2, 5, 10, 20, 50 and so on.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().find(|step| step * power >= value).unwrap_or(10.0);
    step * power
}

fn grid([x1, y1, x2, y2]: [f64; 4]) -> String {
    format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#ddd\"/>")
}

fn words([x, y]: [f64; 2], anchor: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_rises_with_the_percentile_and_names_are_escaped() {
        let mut latency = Latency::new();
        (1..=1_000).for_each(|ms| latency.record(Duration::from_millis(ms)));
        let svg = draw(&[("a<b".to_owned(), &latency)]);
        assert!(svg.contains("a&lt;b") && svg.contains("99.9 %") && !svg.contains("99.99 %"));
        let points = svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next());
        let heights: Vec<f64> = points
            .expect("a line")
            .split_whitespace()
            .filter_map(|point| point.split_once(',')?.1.parse().ok())
            .collect();
        assert_eq!(heights.len(), 3 * POINTS + 1);
        assert!(heights.is_sorted_by(|low, high| low >= high), "up is less");
        assert_eq!(draw(&[]).matches("polyline").count(), 0);
    }

    #[test]
    fn an_axis_ends_at_a_round_number() {
        assert_eq!(
            [round_up(1.0), round_up(1.1), round_up(47.0), round_up(5_001.0)],
            [1.0, 2.0, 50.0, 10_000.0]
        );
    }
}
