//! The suite on the fake, under paused time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use sc_core::ReplicaId;
use sc_engine::{
    Engine, ExecOutput, Fake, StartSpec,
    fake::{Behaviour, End, ExecAnswer},
};

use crate::subject::{Program, Subject, busybox};

struct FakeSubject(Fake);

fn fresh() -> FakeSubject {
    let fake = Fake::default();
    fake.on_exec(|_, spec| match spec.command.last().map(String::as_str) {
        Some("cat") => ExecAnswer::Echo,
        _ => ExecAnswer::Say(vec![ExecOutput::Stdout("no\n".into()), ExecOutput::Exit(5)]),
    });
    FakeSubject(fake)
}

#[async_trait]
impl Subject for FakeSubject {
    fn open(&self) -> Arc<dyn Engine> {
        Arc::new(self.0.clone())
    }

    fn spec(&self, app: &str, n: u64, program: &Program) -> StartSpec {
        let addr = format!("10.213.0.{}:8080", n + 1).parse().unwrap();
        let mut spec = crate::subject::real_spec(app, n, program, "", addr);
        spec.spec = busybox(&mut BTreeMap::new(), vec![]);
        let says = ["one", "two"].map(str::to_owned).to_vec();
        let after = Duration::from_millis(100);
        let (end, says) = match program {
            Program::Talk { code } => (End::Exit { after, code: *code }, says),
            Program::Greedy => (End::OutOfMemory { after }, vec![]),
            Program::Missing => (End::CannotStart("there is no program /app/nothing".to_owned()), vec![]),
            Program::NotExecutable => (End::CannotStart("/app/text is not executable".to_owned()), vec![]),
            Program::NoImage => (End::Refused("image sc-test/nobody-has-this:1 is not here".to_owned()), vec![]),
            _ => (End::Never, vec![]),
        };
        let stop_delay = Duration::from_millis(if *program == Program::Stubborn { 60_000 } else { 50 });
        let cpus = if *program == Program::Busy { 1.0 } else { 0.0 };
        self.0.behave_app(&spec.replica.app, Behaviour { end, says, stop_delay, cpus, ..Behaviour::default() });
        spec
    }

    async fn kill(&self, replica: &ReplicaId) {
        assert!(self.0.crash(replica, 137));
    }

    fn real(&self) -> bool {
        false
    }

    async fn clean(&self) {}
}

crate::all_cases!(fresh(), (start_paused = true));
