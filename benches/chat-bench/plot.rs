//! Plot of a run: the rate over time, as SVG.

use std::fmt::Write;

use crate::report::shown;

/// Sizes, in SVG units.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const MARGIN: f64 = 56.0;

/// How many horizontal grid lines.
const RULES: u32 = 4;

/// Draws `samples`: pairs of seconds and a running count.
pub fn svg(title: &str, what: &str, samples: &[(f64, u64)]) -> String {
    let rates: Vec<_> = samples
        .windows(2)
        .filter(|pair| pair[1].0 > pair[0].0)
        .map(|pair| {
            let ((from_s, from), (to_s, to)) = (pair[0], pair[1]);
            (to_s, to.saturating_sub(from) as f64 / (to_s - from_s))
        })
        .collect();
    let end_s = rates.last().map_or(1.0, |last| last.0);
    let top = rates.iter().map(|rate| rate.1).fold(1.0, f64::max);
    let x = |s: f64| MARGIN + s / end_s * (WIDTH - 2.0 * MARGIN);
    let y = |rate: f64| HEIGHT - MARGIN - rate / top * (HEIGHT - 2.0 * MARGIN);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{MARGIN}\" y=\"24\" font-size=\"14\">{}</text>\n",
        escaped(title)
    );
    for rule in 0..=RULES {
        let rate = top * f64::from(rule) / f64::from(RULES);
        let _ = writeln!(
            svg,
            "<line x1=\"{MARGIN}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{MARGIN}\" y=\"{:.1}\" fill=\"#666\">{} {}/s</text>",
            WIDTH - MARGIN,
            y(rate) - 3.0,
            shown(rate.round()),
            escaped(what),
            y = y(rate),
        );
    }
    let points: Vec<_> = rates
        .iter()
        .map(|&(s, rate)| format!("{:.1},{:.1}", x(s), y(rate)))
        .collect();
    let _ = writeln!(
        svg,
        "<polyline fill=\"none\" stroke=\"#2a6f97\" stroke-width=\"2\" points=\"{}\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#666\">{end_s:.1} s</text>\n\
         </svg>",
        points.join(" "),
        WIDTH - MARGIN,
        HEIGHT - MARGIN + 18.0,
    );
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
