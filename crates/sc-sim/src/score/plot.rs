//! A run as a picture: replicas needed and ready, and the requests that were late, over time. Plain SVG.

use std::fmt::Write;

use super::run::Moment;

const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 50.0;
const TOP: f64 = 30.0;
/// Points of a line at most: as many as can be told apart.
const POINTS: usize = 1_000;

/// The picture, with the load's lines of each of these runs, one above the other: a name and its seconds.
pub fn svg(title: &str, runs: &[(String, Vec<Moment>)]) -> String {
    let mut svg = String::new();
    let height = (HEIGHT + 50.0) * runs.len() as f64 + TOP;
    let _ = writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {:.0} {height:.0}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
<text x="{LEFT}" y="20" font-size="15">{}</text>"#,
        WIDTH + LEFT + 20.0,
        escaped(title)
    );
    for (row, (name, moments)) in runs.iter().enumerate() {
        panel(&mut svg, name, moments, TOP + row as f64 * (HEIGHT + 50.0));
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, name: &str, moments: &[Moment], top: f64) {
    let highest = moments.iter().map(|m| m.needed.max(m.ready)).max().unwrap_or(1).max(1);
    let seconds = moments.len().max(1) as f64;
    let y = |replicas: f64| top + 20.0 + HEIGHT * (1.0 - replicas / f64::from(highest));
    let buckets = buckets(moments);
    let late: f64 =
        moments.iter().map(|m| m.bad).sum::<f64>() / moments.iter().map(|m| m.arrivals).sum::<f64>().max(1.0);
    let _ = writeln!(
        svg,
        r##"<text x="{LEFT}" y="{:.1}">{}: {:.3} % late; <tspan fill="#888">needed</tspan> <tspan fill="#06c">ready</tspan> <tspan fill="#d22">late requests</tspan></text>
<path d="M{LEFT} {:.1}V{:.1}H{:.1}" fill="none" stroke="#444"/>"##,
        top + 12.0,
        escaped(name),
        100.0 * late,
        y(f64::from(highest)),
        y(0.0),
        LEFT + WIDTH
    );
    for part in 0..=4u32 {
        let replicas = f64::from(highest * part) / 4.0;
        let _ = writeln!(
            svg,
            r#"<text x="{:.0}" y="{:.1}" text-anchor="end">{replicas:.0}</text>"#,
            LEFT - 6.0,
            y(replicas) + 4.0
        );
        let hours = seconds / 3_600.0 * f64::from(part) / 4.0;
        let _ = writeln!(
            svg,
            r#"<text x="{:.0}" y="{:.1}">{hours:.1} h</text>"#,
            LEFT + WIDTH * f64::from(part) / 4.0 - 10.0,
            y(0.0) + 16.0
        );
    }
    let mut line = |value: fn(&Bucket) -> f64, colour: &str, scale: f64| {
        let path = buckets.iter().enumerate().fold(String::new(), |mut path, (at, bucket)| {
            let x = LEFT + WIDTH * at as f64 / buckets.len() as f64;
            let _ = write!(path, "{}{x:.1} {:.1}", if at == 0 { 'M' } else { 'L' }, y(value(bucket) * scale));
            path
        });
        let _ = writeln!(svg, r#"<path d="{path}" fill="none" stroke="{colour}"/>"#);
    };
    line(|b| b.late, "#d22", f64::from(highest));
    line(|b| b.needed, "#888", 1.0);
    line(|b| b.ready, "#06c", 1.0);
}

/// What is drawn at one point.
struct Bucket {
    needed: f64,
    ready: f64,
    late: f64,
}

fn buckets(moments: &[Moment]) -> Vec<Bucket> {
    let size = moments.len().div_ceil(POINTS).max(1);
    let bucket = |part: &[Moment]| Bucket {
        needed: part.iter().map(|m| f64::from(m.needed)).fold(0.0, f64::max),
        ready: part.iter().map(|m| f64::from(m.ready)).sum::<f64>() / part.len() as f64,
        late: part.iter().map(|m| m.bad).sum::<f64>() / part.iter().map(|m| m.arrivals).sum::<f64>().max(1.0),
    };
    moments.chunks(size).map(bucket).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_its_lines_and_its_names() {
        let moment = |at| Moment { at, arrivals: 10.0, needed: 3, ready: 4, want: 4, bad: 0.0 };
        let picture = svg("a < b", &[("sc".to_owned(), (0..5_000).map(moment).collect())]);
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert!(picture.contains("a &lt; b") && picture.matches("<path").count() == 4 && picture.len() < 100_000);
    }
}
