//! The shim: one small process per replica that outlives the manager. It owns the replica's session, log and exit
//! status; when it is killed itself, the replica's process is killed with it (parent death signal).

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read, Write},
    os::{fd::AsFd, unix::process::CommandExt},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use sc_core::observed::Exit;

use super::{
    identity::{self, Identity},
    log::{Writer, pump},
    state::{self, Meta, State},
};
use crate::now_ms;

/// How often a replica with a memory limit is measured.
const MEMORY_CHECK: Duration = Duration::from_millis(50);
/// How often its processes are looked for anew.
const FAMILY_CHECK: Duration = Duration::from_millis(500);
/// How long the rest of the output is waited for after the end, and how long left-over processes are killed.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long a program file that somebody still writes to is waited for.
const BUSY: Duration = Duration::from_secs(2);

/// The hidden sub-command that runs one replica. A program that opens a [`super::Process`] engine with the default
/// [`super::Shim`] calls this first thing in its `main`, before any thread is started, when its first argument is
/// `__shim`:
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     let args: Vec<_> = std::env::args_os().collect();
///     if args.get(1).is_some_and(|a| a == "__shim") {
///         return sc_engine::process::shim_main(&args[2..]);
///     }
///     // … the program itself
///     # std::process::ExitCode::SUCCESS
/// }
/// ```
///
/// `args` are the arguments after `__shim`: `run FOLDER`, or `enter MODE PROGRAM ARGS…`, a stage that becomes the
/// program itself.
pub fn shim_main(args: &[OsString]) -> ExitCode {
    let mode = args.first().and_then(|mode| mode.to_str());
    let result = match (mode, &args[args.len().min(1)..]) {
        (Some("run"), [folder]) => {
            let leading = std::env::args_os().count() - args.len();
            let leading: Vec<_> = std::env::args_os().take(leading).skip(1).collect();
            run(Path::new(folder), &leading)
        }
        (Some("enter"), [how, program, args @ ..]) => enter(&how.to_string_lossy(), program, args),
        _ => Err(io::Error::other("this sub-command is for the process engine only")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the replica of a folder to its end.
fn run(folder: &Path, leading: &[OsString]) -> io::Result<()> {
    // Fails only for the leader of a session, which is as good.
    let _ = rustix::process::setsid();
    let Some(_lock) = state::lock(folder)? else { return Ok(()) };
    if state::state(folder)?.is_some() {
        return Ok(());
    }
    let meta = state::meta(folder)?.ok_or_else(|| io::Error::other("no meta.json"))?;
    // Orphans of the replica become the shim's children, so that nothing of it is left behind.
    let _ = rustix::process::set_child_subreaper(Pid::from_raw(1));
    let mut child = spawn(folder, &meta, leading)?;
    let identity = session_of(&child);
    let mut now = State { shim: Identity::own(), child: identity, started_ms: now_ms(), exit: None };
    state::write_state(folder, &now)?;
    let gate = child.stdin.take();
    if !folder.join("stop").exists()
        && let Some(mut gate) = gate
    {
        let _ = gate.write_all(b"g");
    }
    let pumps = pumps(folder, &mut child);
    let (status, oom) = wait(&child, meta.memory)?;
    kill_rest(&child);
    let _ = child.wait();
    for _ in 0..2 {
        let _ = pumps.recv_timeout(LAST_WORDS);
    }
    let error = std::fs::read_to_string(folder.join("error")).unwrap_or_default();
    now.exit = Some(Exit { code: if oom { 137 } else { status }, oom, error, at_ms: now_ms() });
    record(folder, &now)
}

/// Waits until the child leads a session of its own, so that whoever reads of it can signal its group.
fn session_of(child: &Child) -> Option<Identity> {
    let pid = child.id() as i32;
    let until = Instant::now() + LAST_WORDS;
    while Instant::now() < until && identity::Stat::of(pid).is_some_and(|stat| stat.session != pid && !stat.dead()) {
        thread::sleep(Duration::from_micros(200));
    }
    Identity::of(pid)
}

fn spawn(folder: &Path, meta: &Meta, leading: &[OsString]) -> io::Result<Child> {
    Command::new("/proc/self/exe")
        .args(leading)
        .args(["enter", "gate"])
        .arg(&meta.program)
        .args(&meta.args)
        .env_clear()
        .envs(&meta.env)
        .current_dir(folder.join("root"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Copies both streams into the log; says once for each that it ended.
fn pumps(folder: &Path, child: &mut Child) -> mpsc::Receiver<()> {
    let log = Arc::new(Mutex::new(Writer::open(folder)));
    let (ended, pumps) = mpsc::channel();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (log2, ended2) = (Arc::clone(&log), ended.clone());
    thread::spawn(move || {
        out.into_iter().for_each(|out| pump(out, false, &log));
        let _ = ended.send(());
    });
    thread::spawn(move || {
        err.into_iter().for_each(|err| pump(err, true, &log2));
        let _ = ended2.send(());
    });
    pumps
}

/// Waits for the replica's end without reaping it, so that its number stays its own. Reaps orphans meanwhile.
fn wait(child: &Child, memory: Option<u64>) -> io::Result<(i32, bool)> {
    let pid = child.id() as i32;
    let (over, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    if let Some(limit) = memory {
        let (over, ended) = (Arc::clone(&over), Arc::clone(&ended));
        thread::spawn(move || watch_memory(pid, limit, &over, &ended));
    }
    loop {
        let found = match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        if found.is_none() {
            continue;
        }
        // The status does not say whose it is: the child itself is asked first.
        let own = Pid::from_raw(pid)
            .and_then(|pid| {
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
                waitid(WaitId::Pid(pid), options).transpose()
            })
            .transpose()?;
        if let Some(own) = own {
            ended.store(true, Ordering::SeqCst);
            let signalled = own.terminating_signal().map(|signal| 128 + signal);
            let status = own.exit_status().or(signalled).unwrap_or(255);
            return Ok((status, over.load(Ordering::SeqCst)));
        }
        reap_orphans(pid);
    }
}

/// Reaps every dead child but the replica's own process.
fn reap_orphans(own: i32) {
    let shim = std::process::id() as i32;
    for stat in identity::all().into_values().filter(|s| s.parent == shim && s.dead() && s.pid != own) {
        if let Some(pid) = Pid::from_raw(stat.pid) {
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
    }
}

/// Kills the replica when its processes together use more than `limit` bytes. A fast one may overshoot until it is
/// looked at next.
fn watch_memory(pid: i32, limit: u64, over: &AtomicBool, ended: &AtomicBool) {
    let page = rustix::param::page_size() as u64;
    let (mut family, mut looked) = (Vec::new(), None);
    while !ended.load(Ordering::SeqCst) {
        if looked.is_none_or(|at: Instant| at.elapsed() > FAMILY_CHECK) {
            (family, looked) = (identity::family(pid), Some(Instant::now()));
        }
        let stats = family.iter().filter_map(|pid| identity::Stat::of(*pid));
        let used: u64 = stats.map(|stat| stat.pages * page).sum();
        if used > limit {
            over.store(true, Ordering::SeqCst);
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            }
            return;
        }
        thread::sleep(MEMORY_CHECK);
    }
}

/// Kills what the replica leaves behind: its process group, and whatever became the shim's child.
fn kill_rest(child: &Child) {
    let (own, shim) = (child.id() as i32, std::process::id() as i32);
    if let Some(pid) = Pid::from_raw(own) {
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
    let until = Instant::now() + LAST_WORDS;
    while Instant::now() < until {
        let rest: Vec<_> = identity::tree(shim).into_iter().filter(|s| s.pid != shim && s.pid != own).collect();
        if rest.is_empty() {
            return;
        }
        for stat in rest {
            if let Some(pid) = Pid::from_raw(stat.pid) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
        reap_orphans(own);
        thread::sleep(Duration::from_millis(1));
    }
}

/// Writes how the replica ended; a full disk is waited for a while.
fn record(folder: &Path, end: &State) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match state::write_state(folder, end) {
            Err(_) if tries < 60 && folder.exists() => thread::sleep(Duration::from_secs(1)),
            result => return result,
        }
        tries += 1;
    }
}

/// Becomes the program. `gate`: in a session of its own, once a byte has come on standard input, to die with the shim.
/// `tty`: in a session of its own whose terminal is standard input. `plain`: in a session of its own.
fn enter(how: &str, program: &OsString, args: &[OsString]) -> io::Result<()> {
    let _ = rustix::process::setsid();
    match how {
        "gate" => {
            let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            let mut go = [0];
            if io::stdin().read(&mut go)? == 0 {
                return Err(io::Error::other("stopped before it began"));
            }
            rustix::stdio::dup2_stdin(File::open("/dev/null")?.as_fd())?;
        }
        "tty" => rustix::process::ioctl_tiocsctty(io::stdin().as_fd())?,
        _ => {}
    }
    let error = exec(program, args);
    let missing = error.kind() == io::ErrorKind::NotFound;
    let what = format!("{} cannot be started: {error}", program.to_string_lossy());
    eprintln!("{what}");
    if how == "gate" {
        let _ = std::fs::write("../error", &what);
    }
    std::process::exit(if missing { 127 } else { 126 })
}

/// Gives the reason when it did not work. A file that was just copied may still be open for writing in a process that
/// somebody is about to become another; that is waited for.
fn exec(program: &OsString, args: &[OsString]) -> io::Error {
    let until = Instant::now() + BUSY;
    loop {
        let error = Command::new(program).args(args).exec();
        if error.kind() != io::ErrorKind::ExecutableFileBusy || Instant::now() > until {
            return error;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
