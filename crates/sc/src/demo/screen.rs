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
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Min(4),
            Constraint::Length(2),
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
        frame.render_widget(Paragraph::new(lines), foot);
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
        let line = |decision: &sc_scale::Decision| {
            let at = began.saturating_sub(now_ms.saturating_sub(decision.at_ms) / 1_000);
            let style = match (self.colours, decision.want > decision.from) {
                (false, _) => Style::new(),
                (true, true) => Style::new().fg(Color::Green),
                (true, false) => Style::new().fg(Color::Blue),
            };
            Line::styled(format!("{at:>4}s {}", plain::line(decision)), style)
        };
        let lines: Vec<Line<'_>> = self.watch.decisions.iter().rev().take(50).map(line).collect();
        frame.render_widget(Paragraph::new(lines).block(block).wrap(Wrap { trim: false }), area);
    }
}
