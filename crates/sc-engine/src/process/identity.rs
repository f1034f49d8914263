//! Which process is meant: its number, when it began and in which boot, so that a number given anew is never mistaken.

use std::{collections::BTreeMap, fs, sync::OnceLock};

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

/// A process, for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub pid: i32,
    /// Clock ticks from the boot to its start.
    pub start: u64,
    /// The kernel's id of this boot.
    pub boot: String,
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    pub pid: i32,
    /// One letter: `R`, `S`, `T` (stopped), `Z` (dead, not yet reaped), …
    pub state: char,
    pub parent: i32,
    pub session: i32,
    /// CPU time of itself and of its reaped children, in clock ticks.
    pub ticks: u64,
    pub threads: u64,
    pub start: u64,
    /// Resident memory in pages.
    pub pages: u64,
}

impl Stat {
    pub fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in brackets, which may itself hold brackets and blanks.
        let (pid, rest) = text.split_once(" (")?;
        let fields: Vec<&str> = rest.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |i: usize| fields.get(i)?.parse::<u64>().ok();
        Some(Self {
            pid: pid.parse().ok()?,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            ticks: number(11)? + number(12)? + number(13)? + number(14)?,
            threads: number(17)?,
            start: number(19)?,
            pages: number(21)?,
        })
    }

    pub fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    pub fn dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Every process there is.
pub(super) fn all() -> BTreeMap<i32, Stat> {
    let Ok(folder) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, Stat::of(pid)?))).collect()
}

/// A process and all its descendants.
pub(super) fn tree(root: i32) -> Vec<Stat> {
    let all = all();
    let mut found: Vec<Stat> = all.get(&root).cloned().into_iter().collect();
    let mut next = 0;
    while next < found.len() {
        let parent = found[next].pid;
        found.extend(all.values().filter(|s| s.parent == parent).cloned());
        next += 1;
    }
    found
}

/// The numbers of a process and its descendants, from the kernel's own lists of children; where it keeps none, from
/// all processes.
pub(super) fn family(root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let Some(children) = children(found[next]) else { return tree(root).iter().map(|stat| stat.pid).collect() };
        found.extend(children);
        next += 1;
    }
    found
}

/// The children of all threads of a process; none when the kernel does not list them.
fn children(pid: i32) -> Option<Vec<i32>> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Some(Vec::new()) };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => found.extend(list.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok())),
            // The thread ended, or there is no such list.
            Err(_) if !thread.path().exists() => {}
            Err(_) => return None,
        }
    }
    Some(found)
}

fn boot() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
    })
}

impl Identity {
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start: Stat::of(pid)?.start, boot: boot().to_owned() })
    }

    pub fn own() -> Option<Self> {
        Self::of(std::process::id().try_into().ok()?)
    }

    /// It belongs to this boot of the host.
    pub fn this_boot(&self) -> bool {
        self.boot == boot()
    }

    /// What `/proc` says of it; none when it is gone, whoever has its number now.
    pub fn stat(&self) -> Option<Stat> {
        Stat::of(self.pid).filter(|stat| stat.start == self.start && !stat.dead() && self.this_boot())
    }

    pub fn alive(&self) -> bool {
        self.stat().is_some()
    }

    /// Signals the process, if it is still there.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.alive()) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Signals the process group it leads, if it is still there; the process alone while it does not lead one yet.
    pub fn signal_group(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.alive())
            && rustix::process::kill_process_group(pid, signal).is_err()
        {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_name_with_brackets() {
        let text = "42 (a) b (c) T 1 42 42 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 5 0 777 1000 99 18446744073709551615";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.pid, stat.state, stat.parent, stat.session), (42, 'T', 1, 42));
        assert_eq!((stat.ticks, stat.threads, stat.start, stat.pages), (100, 5, 777, 99));
        assert_eq!(Stat::parse("42 (cut off"), None);
    }

    #[test]
    fn finds_children() {
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 1000 & wait"]).spawn().unwrap();
        let own = std::process::id() as i32;
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let grandchild = loop {
            let found = family(child.id() as i32);
            if found.len() == 2 {
                break found[1];
            }
            assert!(std::time::Instant::now() < until, "{found:?}");
        };
        assert!(family(own).contains(&grandchild) && tree(own).iter().any(|stat| stat.pid == grandchild));
        child.kill().unwrap();
        child.wait().unwrap();
        rustix::process::kill_process(Pid::from_raw(grandchild).unwrap(), Signal::KILL).unwrap();
    }

    #[test]
    fn a_number_given_anew_is_another_process() {
        let own = Identity::own().unwrap();
        assert!(own.alive());
        assert!(!Identity { start: own.start + 1, ..own.clone() }.alive());
        assert!(!Identity { boot: "an earlier one".to_owned(), ..own }.alive());
    }
}
