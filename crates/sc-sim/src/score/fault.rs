//! What goes wrong in a run.

/// Something that goes wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// Nothing is measured.
    Blind,
    /// Something that the app asks answers slowly: each request takes `factor` times as long, and no CPU.
    Slow {
        /// How many times as long.
        factor: f64,
    },
    /// A version that needs `factor` times the work; told to the scaler as a new version.
    Deploy {
        /// How many times the work.
        factor: f64,
    },
    /// A replica that starts takes `share` of a ready one's CPU for the time of its start.
    StartTax {
        /// The share.
        share: f64,
    },
    /// The proxy starts anew: a second without its report, and without its queue.
    ProxyRestart,
    /// A replica dies every so many seconds (memory that runs full), and is started anew.
    Leak {
        /// Seconds between two deaths.
        every: u64,
    },
}

/// A fault and its time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spell {
    /// The first second.
    pub from: u64,
    /// The first second after it.
    pub to: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What holds in one second because of all faults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weather {
    /// Nothing is measured.
    pub blind: bool,
    /// How many times as long a request takes.
    pub slowness: f64,
    /// How many times as much CPU it takes.
    pub work: f64,
    /// The version that runs.
    pub version: u64,
    /// What a starting replica takes of a ready one.
    pub start_tax: f64,
    /// A replica dies now.
    pub death: bool,
}

/// The weather of second `at`.
pub fn weather(spells: &[Spell], at: u64) -> Weather {
    let calm = Weather { blind: false, slowness: 1.0, work: 1.0, version: 1, start_tax: 0.0, death: false };
    spells.iter().filter(|spell| (spell.from..spell.to).contains(&at)).fold(calm, |mut weather, spell| {
        match spell.fault {
            Fault::Blind => weather.blind = true,
            Fault::ProxyRestart => weather.blind |= at == spell.from,
            Fault::Slow { factor } => weather.slowness *= factor,
            Fault::Deploy { factor } => {
                weather.slowness *= factor;
                weather.work *= factor;
                weather.version += 1;
            }
            Fault::StartTax { share } => weather.start_tax += share,
            Fault::Leak { every } => weather.death |= every > 0 && (at - spell.from) % every == every - 1,
        }
        weather
    })
}
