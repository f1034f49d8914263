//! The shell around [`sc_core::acme::decide`]: looks, decides, acts, a few times a second while this manager leads. Every step is
//! a task of its own that ends in at most one commit under the epoch it began in; what it does not get done is decided anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sc_core::{
    acme::{Look, Step, decide},
    certs::{
        ACCOUNT, Account, Cert, Certificates, Challenge, Order, OrderState, Origin, Sealed, cert_key, challenge_key,
        issued_name, order_key,
    },
    plan::Desired,
    records::{self, Extra, Level, UnixMs},
};
use sc_store::{Expect, Fence, StoreError, Write};
use sc_vault::pair::Pair;
use tokio::{
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use super::{
    authority::{Authority, Failed},
    days_left, wanted,
};
use crate::{settings::Acme, waiting::chain, world::World};

/// A proxy that has said nothing for so long is not waited for.
const SILENT_MS: u64 = 10_000;
/// After a step that did not get on, its host is left alone for so long.
const COOLS: Duration = Duration::from_secs(5);
/// Time between two attempts at an account, growing to 64 times this.
const ACCOUNT_AGAIN: Duration = Duration::from_secs(60);
/// The same while the store cannot take what was got, and for how long that is tried.
const COMMIT_AGAIN: (Duration, u32) = (Duration::from_millis(500), 20);

/// How a step went.
struct Done {
    /// The host, or none for the account.
    host: Option<String>,
    /// It is left alone for a while.
    cools: Duration,
    /// No order is begun before.
    pause_ms: UnixMs,
    /// The account's trouble.
    trouble: Option<String>,
}

/// What this manager is at.
#[derive(Default)]
pub(super) struct Orders {
    tasks: JoinSet<Done>,
    running: BTreeMap<String, AbortHandle>,
    cooling: BTreeMap<String, Instant>,
    paused_until_ms: UnixMs,
    fence: Option<Fence>,
    account: AccountState,
}

/// The account with the authority.
#[derive(Default)]
struct AccountState {
    asking: bool,
    failures: u32,
    again: Option<Instant>,
}

impl Orders {
    /// Looks and acts once.
    pub(super) async fn turn(&mut self, world: &Arc<World>, fence: Option<Fence>) {
        if self.fence != fence {
            // What began in another epoch could commit nothing.
            *self = Self { fence, ..Self::default() };
        }
        self.reap(world);
        let Some(fence) = fence else { return };
        let Some(snapshot) = world.mirror.snapshot().filter(|snapshot| snapshot.revision >= fence.epoch) else {
            return;
        };
        let (certificates, desired) = (world.certificates_of(&snapshot), world.parse(&snapshot));
        if !desired.left_alone.is_empty() || desired.epoch != fence.epoch {
            return; // what an unreadable app asks for is not known
        }
        let hosts = wanted(&desired);
        let credentials = match &world.settings.acme {
            Some(acme) if !hosts.is_empty() || !certificates.orders.is_empty() => {
                self.account(world, acme, fence, &certificates)
            }
            _ => None,
        };
        let busy: BTreeSet<String> = self.running.keys().chain(self.cooling.keys()).cloned().collect();
        let (applied, applied_by_one) = applied(world, &desired);
        let look = Look {
            now_ms: world.now_ms(),
            wanted: &hosts,
            store: &certificates,
            busy: &busy,
            has_account: credentials.is_some(),
            paused_until_ms: self.paused_until_ms,
            applied,
            applied_by_one,
        };
        let policy = world.settings.acme.as_ref().map(|acme| acme.policy).unwrap_or_default();
        for step in decide(&policy, &look) {
            let job = Job {
                world: world.clone(),
                fence,
                certificates: certificates.clone(),
                credentials: credentials.clone().unwrap_or_default(),
            };
            match step.host() {
                Some(host) => {
                    let host = host.to_owned();
                    self.running.insert(host, self.tasks.spawn(job.take(step)));
                }
                None => job.tidy(&step).await,
            }
        }
    }

    fn reap(&mut self, world: &World) {
        let now = Instant::now();
        self.cooling.retain(|_, until| *until > now);
        while let Some(done) = self.tasks.try_join_next() {
            let Ok(done) = done else {
                // It panicked: what it was at is decided anew.
                self.running.retain(|_, task| !task.is_finished());
                self.account.asking = false;
                continue;
            };
            self.paused_until_ms = self.paused_until_ms.max(done.pause_ms);
            let Some(host) = done.host else {
                self.account.asking = false;
                let failed = done.trouble.is_some();
                self.account.failures = if failed { self.account.failures + 1 } else { 0 };
                let wait = ACCOUNT_AGAIN * (1 << self.account.failures.saturating_sub(1).min(6));
                self.account.again = failed.then(|| now + wait);
                trouble(world, done.trouble);
                continue;
            };
            self.running.remove(&host);
            if !done.cools.is_zero() {
                self.cooling.insert(host, now + done.cools);
            }
        }
    }

    /// The account's credentials; none as long as there is no account to use, which is then made.
    fn account(
        &mut self,
        world: &Arc<World>,
        acme: &Acme,
        fence: Fence,
        certificates: &Arc<Certificates>,
    ) -> Option<String> {
        let known = certificates.account.as_ref().map(|kept| &kept.record);
        let ours = known.filter(|account| account.directory == acme.directory);
        let credentials = ours.map(|account| world.vault.unseal(ACCOUNT, &account.credentials));
        let credentials = match credentials {
            Some(Ok(credentials)) => Some(credentials.0),
            Some(Err(error)) => {
                trouble(world, Some(format!("the account's credentials: {}", chain(&error))));
                return None;
            }
            None => None,
        };
        let current = ours.is_some_and(|account| account.email == acme.email);
        let may = !self.account.asking && self.account.again.is_none_or(|again| again <= Instant::now());
        if !current && may && !certificates.unreadable.contains_key(ACCOUNT) {
            self.account.asking = true;
            let (world, acme, certificates) = (world.clone(), acme.clone(), certificates.clone());
            self.tasks.spawn(make_account(world, acme, fence, certificates, credentials.clone()));
        }
        credentials
    }
}

fn trouble(world: &World, trouble: Option<String>) {
    if world.set_acme_trouble(trouble.clone())
        && let Some(why) = trouble
    {
        world.events.warn("acme_trouble", None, format!("no certificate can be had from the authority: {why}"));
    }
}

/// What all proxies that report have applied of certificates, and what the furthest has.
fn applied(world: &World, desired: &Desired) -> (Option<u64>, Option<u64>) {
    let now = world.now_ms();
    let reports = desired.proxies.keys().map(|id| world.reports.report(id));
    let live = reports.filter(|report| report.at.is_some_and(|at| now.saturating_sub(at) < SILENT_MS));
    let revisions: Vec<u64> = live.map(|report| report.certs).collect();
    (revisions.iter().min().copied(), revisions.iter().max().copied())
}

/// Makes an account, or tells the authority of another address.
async fn make_account(
    world: Arc<World>,
    acme: Acme,
    fence: Fence,
    certificates: Arc<Certificates>,
    credentials: Option<String>,
) -> Done {
    let made = async {
        let credentials = match credentials {
            Some(credentials) => {
                Authority::open(&acme, &credentials).await?.write_to(&acme.email).await?;
                credentials
            }
            None => Authority::register(&acme).await?,
        };
        let sealed = world.vault.key().and_then(|key| key.seal(ACCOUNT, &credentials));
        let sealed = sealed.map_err(|error| Failed::passing(chain(&error)))?;
        let account = Account {
            v: 1,
            directory: acme.directory.clone(),
            email: acme.email.clone(),
            credentials: sealed,
            extra: Extra::new(),
        };
        let revision = certificates.revision_of(ACCOUNT);
        let expect = Expect { key: ACCOUNT.to_owned(), revision };
        let put = Write::Put { key: ACCOUNT.to_owned(), value: records::write(&account), lease: None };
        let committed = commit(&world, fence, vec![expect], vec![put]).await;
        committed.map_err(|error| Failed::passing(chain(&error)))?;
        world.events.info("acme_account", None, format!("there is an account with {} now", acme.directory));
        Ok::<_, Failed>(())
    };
    let trouble = made.await.err().map(|failed| failed.why);
    Done { host: None, cools: Duration::ZERO, pause_ms: 0, trouble }
}

/// One step.
struct Job {
    world: Arc<World>,
    fence: Fence,
    certificates: Arc<Certificates>,
    credentials: String,
}

impl Job {
    async fn take(self, step: Step) -> Done {
        let mut pause_ms = 0;
        let result = match &step {
            Step::Begin(host) => self.begin(host, &mut pause_ms).await,
            Step::Answer(host) => self.answer(host).await,
            Step::Finish(host) => self.finish(host).await,
            Step::Fail(host, why) => self.fail(host, why, None).await,
            Step::Forget(host) => self.forget(host).await,
            Step::Drop(_) | Step::Clear(_) => Ok(()),
        };
        let cools = if result.is_ok() { Duration::ZERO } else { COOLS };
        if let Err(error) = result {
            tracing::warn!(host = step.host(), error, "a step towards a certificate is taken again");
        }
        Done { host: step.host().map(str::to_owned), cools, pause_ms, trouble: None }
    }

    async fn begin(&self, host: &str, pause_ms: &mut UnixMs) -> Result<(), String> {
        let key = order_key(host);
        let before = self.order(host);
        let (failures, why) = before.map_or((0, String::new()), |order| (order.failures, order.why.clone()));
        let extra = before.map_or_else(Extra::new, |order| order.extra.clone());
        let order = |state| Order { v: 1, failures, why: why.clone(), state, extra: extra.clone() };
        let since_ms = self.world.now_ms();
        let put = |order: &Order| Write::Put { key: key.clone(), value: records::write(order), lease: None };
        let begun = order(OrderState::Begun { since_ms });
        let expect = Expect { key: key.clone(), revision: self.certificates.revision_of(&key) };
        let revision = self.commit(vec![expect], vec![put(&begun)]).await?;

        let made = async {
            let private = rcgen::KeyPair::generate().map_err(|error| Failed::passing(error.to_string()))?;
            let sealed = self.seal(&key, &private.serialize_pem()).map_err(Failed::passing)?;
            let ordered = self.authority().await?.order(host).await?;
            Ok::<_, Failed>((sealed, ordered))
        };
        let (sealed, ordered) = match made.await {
            Ok(made) => made,
            Err(failed) => {
                let until = failed.until.map(unix_ms);
                *pause_ms = until.unwrap_or(0);
                return self.fail_from(host, &begun, revision, &failed.why, until).await;
            }
        };
        let token = ordered.challenge.as_ref().map(|(token, _)| token.clone());
        let mut writes = vec![put(&order(OrderState::Open { url: ordered.url, key: sealed, token, since_ms }))];
        if let Some((token, answer)) = ordered.challenge {
            let challenge = Challenge { v: 1, host: host.to_owned(), answer, extra: Extra::new() };
            writes.push(Write::Put { key: challenge_key(&token), value: records::write(&challenge), lease: None });
        }
        self.commit(vec![Expect { key, revision }], writes).await.map(drop)
    }

    async fn answer(&self, host: &str) -> Result<(), String> {
        let Some(order) = self.order(host) else { return Ok(()) };
        let OrderState::Open { url, key, token, since_ms } = order.state.clone() else { return Ok(()) };
        let told = async { self.authority().await?.answer(&url).await };
        match told.await {
            Err(failed) if failed.is_final => return self.fail(host, &failed.why, failed.until.map(unix_ms)).await,
            Err(failed) => return Err(failed.why),
            Ok(()) => {}
        }
        let record = Order { state: OrderState::Answered { url, key, token, since_ms }, ..order.clone() };
        let put = Write::Put { key: order_key(host), value: records::write(&record), lease: None };
        self.commit(vec![self.expect(&order_key(host))], vec![put]).await.map(drop)
    }

    async fn finish(&self, host: &str) -> Result<(), String> {
        let Some(order) = self.order(host) else { return Ok(()) };
        let OrderState::Answered { url, key: sealed, token, .. } = &order.state else { return Ok(()) };
        let private = match self.world.vault.unseal(&order_key(host), sealed) {
            Ok(private) => private,
            Err(error) => return self.fail(host, &format!("its private key: {}", chain(&error)), None).await,
        };
        let csr = csr(host, &private.0)?;
        let finished = async { self.authority().await?.finish(url, &csr).await };
        let chain = match finished.await {
            Ok(Some(chain)) => chain,
            Ok(None) => return Ok(()), // it is asked again
            Err(failed) if failed.is_final => return self.fail(host, &failed.why, failed.until.map(unix_ms)).await,
            Err(failed) => return Err(failed.why),
        };
        let now_ms = self.world.now_ms();
        let pair = match Pair::read(&chain, &private.0, now_ms) {
            Ok(pair) if pair.names.iter().any(|name| name == host) => pair,
            Ok(pair) => {
                let why = format!("the authority's certificate is for {}", pair.names.join(", "));
                return self.fail(host, &why, None).await;
            }
            Err(refused) => return self.fail(host, &format!("the authority's certificate: {refused}"), None).await,
        };
        let name = issued_name(host);
        let key = cert_key(&name);
        let record = Cert {
            v: 1,
            chain: pair.chain,
            key: self.seal(&key, &pair.key.0)?,
            names: pair.names,
            not_before_ms: pair.not_before_ms,
            not_after_ms: pair.not_after_ms,
            source: Origin::Acme,
            added_ms: now_ms,
            extra: Extra::new(),
        };
        let mut writes = vec![
            Write::Put { key: key.clone(), value: records::write(&record), lease: None },
            Write::Delete { key: order_key(host) },
        ];
        writes.extend(token.iter().map(|token| Write::Delete { key: challenge_key(token) }));
        self.commit(vec![self.expect(&order_key(host)), self.expect(&key)], writes).await?;
        let text = format!("{host} has a certificate from the authority: {}", days_left(&record, now_ms));
        self.world.events.add(self.world.events.event(Level::Info, "cert_issued", None, text));
        Ok(())
    }

    async fn fail(&self, host: &str, why: &str, until: Option<UnixMs>) -> Result<(), String> {
        let Some(order) = self.order(host) else { return Ok(()) };
        let revision = self.certificates.revision_of(&order_key(host));
        self.fail_from(host, order, revision, why, until).await
    }

    /// Ends an attempt: when the next may begin is written down.
    async fn fail_from(
        &self,
        host: &str,
        order: &Order,
        revision: u64,
        why: &str,
        until: Option<UnixMs>,
    ) -> Result<(), String> {
        let now_ms = self.world.now_ms();
        let failures = order.failures.saturating_add(1);
        let policy = self.world.settings.acme.as_ref().map(|acme| acme.policy).unwrap_or_default();
        let until_ms = policy.next_attempt(now_ms, failures, host, until);
        let why: String = why.chars().take(1_000).collect();
        let state = OrderState::Waiting { until_ms };
        let record = Order { v: 1, failures, why: why.clone(), state, extra: order.extra.clone() };
        let mut writes = vec![Write::Put { key: order_key(host), value: records::write(&record), lease: None }];
        writes.extend(order.token().map(|token| Write::Delete { key: challenge_key(token) }));
        self.commit(vec![Expect { key: order_key(host), revision }], writes).await?;
        let seconds = until_ms.saturating_sub(now_ms) / 1_000;
        let text = format!("no certificate for {host} (attempt {failures}, the next in {seconds} s): {why}");
        self.world.events.add(self.world.events.event(Level::Warning, "cert_failed", None, text));
        Ok(())
    }

    async fn forget(&self, host: &str) -> Result<(), String> {
        let key = order_key(host);
        let mut writes = vec![Write::Delete { key: key.clone() }];
        let token = self.order(host).and_then(|order| order.token());
        writes.extend(token.map(|token| Write::Delete { key: challenge_key(token) }));
        self.commit(vec![self.expect(&key)], writes).await.map(drop)
    }

    /// Removes one key that nothing needs.
    async fn tidy(&self, step: &Step) {
        let key = match step {
            Step::Drop(name) => cert_key(name),
            Step::Clear(token) => challenge_key(token),
            _ => return,
        };
        let result = self.commit(vec![self.expect(&key)], vec![Write::Delete { key: key.clone() }]).await;
        if let Err(error) = result {
            tracing::debug!(key, error, "it stays for now");
        }
    }

    fn order(&self, host: &str) -> Option<&Order> {
        self.certificates.orders.get(host).map(|kept| &kept.record)
    }

    fn expect(&self, key: &str) -> Expect {
        Expect { key: key.to_owned(), revision: self.certificates.revision_of(key) }
    }

    fn seal(&self, key: &str, text: &str) -> Result<Sealed, String> {
        self.world.vault.key().and_then(|vault| vault.seal(key, text)).map_err(|error| chain(&error))
    }

    async fn authority(&self) -> Result<Authority, Failed> {
        let acme =
            self.world.settings.acme.as_ref().ok_or_else(|| Failed::passing("there is no authority".to_owned()))?;
        Authority::open(acme, &self.credentials).await
    }

    async fn commit(&self, expects: Vec<Expect>, writes: Vec<Write>) -> Result<u64, String> {
        commit(&self.world, self.fence, expects, writes).await.map_err(|error| chain(&error))
    }
}

/// Commits under an epoch. A store that is away for a moment costs no order.
async fn commit(world: &World, fence: Fence, expects: Vec<Expect>, writes: Vec<Write>) -> Result<u64, StoreError> {
    let mut tries = 0;
    loop {
        match world.mirror.commit(Some(fence), expects.clone(), writes.clone()).await {
            Ok(revision) => {
                drop(world.mirror.reach(revision).await);
                return Ok(revision);
            }
            Err(StoreError::Unavailable { .. }) if tries < COMMIT_AGAIN.1 => tries += 1,
            Err(error) => {
                world.mirror.note(&error);
                drop(world.mirror.reload().await);
                return Err(error);
            }
        }
        tokio::time::sleep(COMMIT_AGAIN.0).await;
    }
}

/// A request for a certificate for one host, in DER.
fn csr(host: &str, key: &str) -> Result<Vec<u8>, String> {
    let key = rcgen::KeyPair::from_pem(key).map_err(|error| error.to_string())?;
    let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).map_err(|error| error.to_string())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(|error| error.to_string())?;
    Ok(request.der().to_vec())
}

fn unix_ms(at: SystemTime) -> UnixMs {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
