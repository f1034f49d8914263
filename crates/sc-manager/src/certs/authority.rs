//! What is said to an authority, one step of an order at a time. Each step can be taken again: it looks first how the order is.

use std::time::{Duration, SystemTime};

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeStatus, ChallengeType, Error, Identifier, NewAccount,
    NewOrder, Order, OrderStatus,
};
use tokio::time::{Instant, sleep};

use super::http::Https;
use crate::settings::Acme;

/// How long one step waits for the authority; then it is taken again.
const WAITS: Duration = Duration::from_secs(30);
/// Time between two questions, growing to the last.
const ASKS: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(3)];
/// The longest token of a challenge: it becomes part of a key of the store.
const TOKEN_MAX: usize = 256;

/// Why a step did not get on.
#[derive(Debug)]
pub(super) struct Failed {
    /// For people.
    pub(super) why: String,
    /// The order cannot come to anything any more.
    pub(super) is_final: bool,
    /// The authority wants to be left alone until then.
    pub(super) until: Option<SystemTime>,
}

/// An order that was made.
pub(super) struct Ordered {
    pub(super) url: String,
    /// The challenge's token and its answer; none: no proof is wanted.
    pub(super) challenge: Option<(String, String)>,
}

/// The authority, as the account's holder.
pub(super) struct Authority {
    https: Https,
    account: Account,
}

impl Authority {
    /// Makes an account. Gives its credentials as text.
    pub(super) async fn register(acme: &Acme) -> Result<String, Failed> {
        let https = Https::new(acme.ca.as_deref()).map_err(Failed::lasting)?;
        let contact = format!("mailto:{}", acme.email);
        let new = NewAccount { contact: &[&contact], terms_of_service_agreed: true, only_return_existing: false };
        let builder = Account::builder_with_http(Box::new(https.clone()));
        let made = builder.create(&new, acme.directory.clone(), None).await;
        let (_, credentials) = made.map_err(|error| Failed::of(&https, error))?;
        serde_json::to_string(&credentials).map_err(|error| Failed::lasting(error.to_string()))
    }

    /// Comes back with these credentials.
    pub(super) async fn open(acme: &Acme, credentials: &str) -> Result<Self, Failed> {
        let https = Https::new(acme.ca.as_deref()).map_err(Failed::passing)?;
        let credentials: AccountCredentials =
            serde_json::from_str(credentials).map_err(|error| Failed::passing(error.to_string()))?;
        let builder = Account::builder_with_http(Box::new(https.clone()));
        let account = builder.from_credentials(credentials).await.map_err(|error| Failed::of(&https, error))?;
        Ok(Self { https, account })
    }

    /// Tells it whom to write to.
    pub(super) async fn write_to(&self, email: &str) -> Result<(), Failed> {
        let contact = format!("mailto:{email}");
        self.account.update_contacts(&[&contact]).await.map_err(|error| self.failed(error))
    }

    /// Orders a certificate for a host.
    pub(super) async fn order(&self, host: &str) -> Result<Ordered, Failed> {
        let names = [Identifier::Dns(host.to_owned())];
        let order = self.account.new_order(&NewOrder::new(&names)).await;
        let mut order = order.map_err(|error| self.failed(error))?;
        let mut challenge = None;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| self.failed(error))?;
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                status => return Err(Failed::lasting(format!("its authorization is {status:?} from the beginning"))),
            }
            let Some(found) = authorization.challenge(ChallengeType::Http01) else {
                return Err(Failed::lasting("the authority takes no proof by HTTP-01".to_owned()));
            };
            let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if found.token.is_empty() || found.token.len() > TOKEN_MAX || !found.token.bytes().all(fine) {
                return Err(Failed::lasting("the challenge's token is none".to_owned()));
            }
            challenge = Some((found.token.clone(), found.key_authorization().as_str().to_owned()));
        }
        Ok(Ordered { url: order.url().to_owned(), challenge })
    }

    /// Tells it to look for the challenge, if it has not yet.
    pub(super) async fn answer(&self, url: &str) -> Result<(), Failed> {
        let mut order = self.open_order(url).await?;
        if order.state().status != OrderStatus::Pending {
            return Ok(());
        }
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| self.failed(error))?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            if let Some(mut challenge) = authorization.challenge(ChallengeType::Http01)
                && challenge.status == ChallengeStatus::Pending
            {
                challenge.set_ready().await.map_err(|error| self.failed(error))?;
            }
        }
        Ok(())
    }

    /// Sees an order through, for a while. Gives the chain; none: the authority is still at work.
    pub(super) async fn finish(&self, url: &str, csr: &[u8]) -> Result<Option<String>, Failed> {
        let mut order = self.open_order(url).await?;
        let end = Instant::now() + WAITS;
        let mut pause = ASKS.iter().chain(std::iter::repeat(&ASKS[ASKS.len() - 1]));
        loop {
            match order.state().status {
                OrderStatus::Ready => order.finalize_csr(csr).await.map_err(|error| self.failed(error))?,
                OrderStatus::Valid => return order.certificate().await.map_err(|error| self.failed(error)),
                OrderStatus::Invalid => return Err(Failed::lasting(self.reason(&mut order).await)),
                OrderStatus::Pending | OrderStatus::Processing => {
                    let asked = self.https.retry_after().and_then(|at| at.duration_since(SystemTime::now()).ok());
                    let wait = (*pause.next().unwrap_or(&ASKS[0])).max(asked.unwrap_or_default());
                    if Instant::now() + wait > end {
                        return Ok(None);
                    }
                    sleep(wait).await;
                    order.refresh().await.map_err(|error| self.failed(error))?;
                }
            }
        }
    }

    async fn open_order(&self, url: &str) -> Result<Order, Failed> {
        self.account.order(url.to_owned()).await.map_err(|error| self.failed(error))
    }

    /// Why an order is invalid: the challenge says it better than the order.
    async fn reason(&self, order: &mut Order) -> String {
        let mut authorizations = order.authorizations();
        while let Some(Ok(authorization)) = authorizations.next().await {
            if let Some(error) = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
                return format!("the authority could not see that the host is ours: {error}");
            }
        }
        let said = order.state().error.as_ref().map(ToString::to_string);
        said.unwrap_or_else(|| "the authority says that the order is invalid, and not why".to_owned())
    }

    fn failed(&self, error: Error) -> Failed {
        Failed::of(&self.https, error)
    }
}

impl Failed {
    pub(super) fn lasting(why: String) -> Self {
        Self { why, is_final: true, until: None }
    }

    pub(super) fn passing(why: String) -> Self {
        Self { why, is_final: false, until: None }
    }

    fn of(https: &Https, error: Error) -> Self {
        let kind = match &error {
            Error::Api(problem) => problem.r#type.as_deref().and_then(|kind| kind.rsplit(':').next()).unwrap_or("api"),
            _ => "",
        };
        let limited = kind == "rateLimited";
        let until = https.retry_after().filter(|_| limited || kind == "serverInternal");
        // What is no problem of the authority's own words is a way that is blocked, which may open.
        let is_final = !matches!(kind, "" | "rateLimited" | "serverInternal" | "badNonce");
        let mut why = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            why = format!("{why}: {cause}");
            source = cause.source();
        }
        Self { why, is_final, until }
    }
}
