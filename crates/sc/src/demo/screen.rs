//! The demo on a terminal.

use std::time::Duration;

use ratatui::{
    DefaultTerminal, Frame,
    crossterm::event::{self, Event, KeyCode, KeyModifiers},
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize},
    text::Line,
    widgets::{Block, Paragraph, Sparkline, Wrap},
};

use super::{
    Options,
    parts::Parts,
    plain::{self, commands},
    watch::{Second, Watch},
};
use crate::out;

/// The screen. Dropping it gives the terminal back as it was.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    url: String,
    commands: String,
    length: Option<Duration>,
    colours: bool,
}

impl Screen {
    /// Takes the terminal. A panic gives it back first.
    pub fn begin(parts: &Parts, options: &Options) -> std::io::Result<Self> {
        Ok(Self {
            terminal: ratatui::try_init()?,
            url: plain::url(parts),
            commands: commands().join(" · "),
            length: options.length,
            colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        })
    }

    /// Draws; true when the user wants to end.
    pub fn draw(&mut self, watch: &Watch) -> std::io::Result<bool> {
        while event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()? {
                let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    return Ok(true);
                }
            }
        }
        let page = Page { watch, url: &self.url, commands: &self.commands, length: self.length, colours: self.colours };
        self.terminal.draw(|frame| page.draw(frame)).map(|_| false)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = ratatui::try_restore();
    }
}

/// What is drawn.
struct Page<'a> {
    watch: &'a Watch,
    url: &'a str,
    commands: &'a str,
    length: Option<Duration>,
    colours: bool,
}

impl Page<'_> {
    fn draw(&self, frame: &mut Frame<'_>) {
        let rows = [
            Constraint::Length(1),
            Constraint::Fill(2),
            Constraint::Fill(2),
            Constraint::Fill(3),
            Constraint::Length(3),
        ];
        let [head, first, second, decisions, foot] = Layout::vertical(rows).areas(frame.area());
        frame.render_widget(self.head(), head);
        let [load, replicas] = Layout::horizontal([Constraint::Percentage(50); 2]).areas(first);
        let [p50, p99] = Layout::horizontal([Constraint::Percentage(50); 2]).areas(second);
        let now = self.watch.seconds.back().cloned().unwrap_or_default();
        self.chart(frame, load, &format!("load {} requests/s", now.sent), Color::Cyan, |s| s.sent as f64);
        let count = format!("replicas {} ready, {} wanted", self.watch.ready, self.watch.want);
        self.chart(frame, replicas, &count, Color::Green, |s| f64::from(s.ready));
        let median = format!("latency p50 {}", out::latency(now.p50_ms));
        self.chart(frame, p50, &median, Color::Yellow, |s| s.p50_ms);
        self.chart(frame, p99, &format!("latency p99 {}", out::latency(now.p99_ms)), Color::Magenta, |s| s.p99_ms);
        self.decisions(frame, decisions);
        let lines = vec![Line::from(format!("curl '{}'", self.url)), Line::from(format!("try: {}", self.commands))];
        frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }), foot);
    }

    fn head(&self) -> Line<'static> {
        let elapsed = self.watch.began.elapsed().as_secs();
        let of = self.length.map(|length| format!(" of {}", length.as_secs())).unwrap_or_default();
        let failed = self.watch.seconds.back().map_or(0, |second| second.failed);
        Line::from(format!("sc demo · {elapsed}{of} s · {failed} requests failed · q ends it")).bold()
    }

    fn chart(&self, frame: &mut Frame<'_>, area: Rect, title: &str, colour: Color, value: impl Fn(&Second) -> f64) {
        let block = Block::bordered().title(format!(" {title} "));
        let width = usize::from(block.inner(area).width);
        let skip = self.watch.seconds.len().saturating_sub(width);
        // Tenths, so that small numbers have a shape too.
        let data: Vec<u64> = self.watch.seconds.iter().skip(skip).map(|s| (value(s) * 10.0) as u64).collect();
        let style = if self.colours { Style::new().fg(colour) } else { Style::new() };
        frame.render_widget(Sparkline::default().block(block).data(data).style(style), area);
    }

    fn decisions(&self, frame: &mut Frame<'_>, area: Rect) {
        let block = Block::bordered().title(" decisions, the latest first ");
        let began = self.watch.began.elapsed().as_secs();
        let now_ms = crate::times::now_ms();
        let width = usize::from(block.inner(area).width).saturating_sub(STAMP).max(20);
        let lines = |decision: &sc_scale::Decision| {
            let at = began.saturating_sub(now_ms.saturating_sub(decision.at_ms) / 1_000);
            let style = match (self.colours, decision.want > decision.from) {
                (false, _) => Style::new(),
                (true, true) => Style::new().fg(Color::Green),
                (true, false) => Style::new().fg(Color::Blue),
            };
            let text = wrapped(&plain::line(decision), width);
            let stamp = move |n: usize| if n == 0 { format!("{at:>4}s ") } else { " ".repeat(STAMP) };
            text.into_iter().enumerate().map(move |(n, text)| Line::styled(stamp(n) + &text, style))
        };
        let lines: Vec<Line<'_>> = self.watch.decisions.iter().rev().take(50).flat_map(lines).collect();
        frame.render_widget(Paragraph::new(lines).block(block), area);
    }
}

/// Columns of a decision's time.
const STAMP: usize = 6;

/// A text in lines of at most so many characters, broken between words where that is possible.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split(' ') {
        let fits = line.chars().count() + 1 + word.chars().count() <= width;
        line = match (line.is_empty(), fits) {
            (true, _) => word.to_owned(),
            (false, true) => line + " " + word,
            (false, false) => {
                lines.push(line);
                format!("  {word}")
            }
        };
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_broken_between_words() {
        assert_eq!(wrapped("up to five", 20), ["up to five"]);
        assert_eq!(wrapped("up to five of ten", 10), ["up to five", "  of ten"]);
        assert_eq!(wrapped("unbreakable and short", 9), ["unbreakable", "  and", "  short"]);
        assert_eq!(wrapped("", 9), [""]);
    }
}
