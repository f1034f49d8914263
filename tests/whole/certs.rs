//! Certificates: added by people, kept sealed in the store; and had from an authority of the test's own.

use std::{net::SocketAddr, time::Duration};

use sc_tests::{
    Cloud, acme::Acme, certificates::Authority, cloud::StateIn, etcd::ctl, load::get, poll, secs, tls::Secure,
};

/// An installation of processes whose proxy takes HTTPS, and whose manager knows an authority that gives certificates for so long.
async fn with_authority(state: StateIn, lifetime: Duration) -> (Cloud, Acme, SocketAddr) {
    let mut cloud = Cloud::process_not_yet(state).await;
    let authority = Authority::new(cloud.path("").as_path());
    let (ca, https) = (authority.ca(), cloud.slot.addr());
    let acme = Acme::start(authority, cloud.slot.addr(), cloud.http, lifetime).await;
    let arguments =
        ["--acme-email", "me@sc.test", "--acme-directory", &acme.directory(), "--acme-ca", &ca, "--acme-retry", "2s"];
    cloud.manager_more = arguments.map(str::to_owned).into();
    cloud.proxy_more = vec!["--listen-tls".to_owned(), https.to_string()];
    if state == StateIn::Etcd {
        let key = cloud.path("manager/store.key").display().to_string();
        cloud.proxy_more.extend(["--store-key".to_owned(), key]);
    }
    (cloud, acme, https)
}

/// Deploys an app at these hosts that asks for their certificates.
async fn deploy(cloud: &Cloud, hosts: &[&str]) {
    let routes: String = hosts.iter().map(|host| format!("[[app.web.route]]\nhost = \"{host}\"\n")).collect();
    let matrix = sc_tests::program("sc-matrix").display().to_string();
    let file = format!(
        "[app.web]\nbinary = \"{matrix}\"\nport = 8080\n{routes}[app.web.traffic]\nhttps = \"redirect\"\ncertificate = \"acme\"\n[app.web.scale]\nreplicas = 1\n"
    );
    cloud.write("sc.toml", &file);
    cloud.sc(&["deploy"]).await.ok();
}

/// Waits until a host is served over HTTPS with a certificate of the authority. Gives the connection.
async fn secure(addr: SocketAddr, host: &str, ca: &str) -> Secure {
    let ask = async || {
        let mut secure = Secure::connect(addr, host, ca).await.ok()?;
        (secure.get("/whoami").await.ok()? == 200).then_some(secure)
    };
    poll(secs(60), &format!("https://{host} to be served"), ask).await
}

/// A host's state as `sc cert ls` tells it.
async fn state(cloud: &Cloud, name: &str) -> Option<(String, String)> {
    let out = cloud.sc(&["cert", "ls", "-o", "json"]).await;
    let certs: serde_json::Value = serde_json::from_str(&out.stdout).ok()?;
    let cert = certs.as_array()?.iter().find(|cert| cert["name"] == name)?;
    Some((cert["state"].as_str()?.to_owned(), cert["detail"].as_str()?.to_owned()))
}

/// A host gets a certificate although the authority stumbles; it is renewed while a connection goes on; and it is served with
/// the manager dead, also by a proxy that was started anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_gets_a_certificate_that_is_renewed_and_outlives_the_manager() {
    let (mut cloud, acme, https) = with_authority(StateIn::Embedded, secs(36)).await;
    acme.fail(|faults| (faults.bad_nonce, faults.stale_polls) = (1, 3));
    cloud.start().await;
    deploy(&cloud, &["shop.sc.test"]).await;
    let mut open = secure(https, "shop.sc.test", &acme.ca()).await;
    let (state, _) = state(&cloud, "acme:shop.sc.test").await.expect("it is listed");
    assert_eq!(state, "ok");
    let (head, _) = get(cloud.http, "shop.sc.test", "/.well-known/acme-challenge/unknown").await.unwrap();
    assert_eq!(head.status, 301, "what is no challenge is a request like any other");

    let first = open.cert.clone();
    let renewed = async || {
        assert_eq!(open.get("/whoami").await.expect("the open connection goes on"), 200);
        let now = Secure::connect(https, "shop.sc.test", &acme.ca()).await.expect("there is always a good certificate");
        (now.cert != first).then_some(())
    };
    poll(secs(60), "the certificate to be renewed", renewed).await;
    let seen = acme.seen();
    assert!(seen.wrong.is_empty() && seen.accounts == 1, "{seen:?}");
    assert!(seen.orders.len() <= 3 && seen.issued.len() <= 3, "{seen:?}");

    // From now on they last.
    acme.lifetime(secs(3_600));
    let lasts = async || (acme.seen().issued.len() > seen.issued.len()).then_some(());
    poll(secs(60), "one that lasts", lasts).await;
    secure(https, "shop.sc.test", &acme.ca()).await;
    let kept = cloud.path("proxy/certs.json");
    let cert = |json: &str| {
        serde_json::from_str::<serde_json::Value>(json).ok()?["certs"]["acme:shop.sc.test"]["chain"]
            .as_str()
            .map(str::to_owned)
    };
    let before = cert(&std::fs::read_to_string(&kept).unwrap_or_default());
    assert!(before.is_some(), "the proxy keeps it");
    cloud.kill_manager().await;
    cloud.kill_proxy().await;
    cloud.resume_proxy().await;
    secure(https, "shop.sc.test", &acme.ca()).await;
}

/// Killed while the authority is at work, the manager goes on with the same order: no second one, one certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_killed_in_the_middle_of_an_order_goes_on_with_it() {
    let (mut cloud, acme, https) = with_authority(StateIn::Etcd, secs(3_600)).await;
    acme.fail(|faults| faults.hold = true);
    cloud.start().await;
    deploy(&cloud, &["one.sc.test", "two.sc.test"]).await;
    poll(secs(60), "the authority to be told to look", async || (acme.seen().told == 2).then_some(())).await;
    for _ in 0..3 {
        cloud.kill_manager().await;
        cloud.resume_manager().await;
        cloud.works().await;
    }
    acme.fail(|faults| faults.hold = false);
    for host in ["one.sc.test", "two.sc.test"] {
        secure(https, host, &acme.ca()).await;
    }
    let seen = acme.seen();
    assert_eq!((seen.orders.len(), seen.issued.len(), seen.accounts), (2, 2, 1), "{seen:?}");
    assert!(seen.wrong.is_empty(), "{seen:?}");
    // Nothing secret is in the store, and nothing of the orders stays.
    let url = cloud.etcd_url().expect("etcd");
    let all = ctl(&url, &[], &["get", "--prefix", "/sc/v1/"]).await.ok();
    assert!(!all.stdout.contains("PRIVATE KEY"), "a private key is in the store");
    all.says(&["/sc/v1/certs/acme:one.sc.test", "/sc/v1/acme/account"]);
    let left = async || {
        let orders = ctl(&url, &[], &["get", "--prefix", "/sc/v1/acme/orders/", "--keys-only"]).await.ok();
        let challenges = ctl(&url, &[], &["get", "--prefix", "/sc/v1/certs/challenges/", "--keys-only"]).await.ok();
        (orders.stdout.trim().is_empty() && challenges.stdout.trim().is_empty()).then_some(())
    };
    poll(secs(20), "orders and challenges to be gone", left).await;
}

/// What an authority refuses is told, with the reason, and tried again after a while; one that names a time is left alone till then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_refuses_is_asked_again_later() {
    let (mut cloud, acme, https) = with_authority(StateIn::Embedded, secs(3_600)).await;
    acme.fail(|faults| faults.invalid = 1);
    cloud.start().await;
    deploy(&cloud, &["shop.sc.test"]).await;
    let failed = async || state(&cloud, "acme:shop.sc.test").await.filter(|(state, _)| state == "failed");
    let (_, why) = poll(secs(60), "the failure to be told", failed).await;
    assert!(why.contains("could not see that the host is ours") && why.contains("not found there"), "{why}");
    cloud.sc(&["doctor"]).await.says(&["certificate acme:shop.sc.test", "not found there", "port 80"]);
    cloud.sc(&["events"]).await.ok().says(&["cert_failed"]);
    secure(https, "shop.sc.test", &acme.ca()).await;

    // An order that the authority forgets is begun anew; too many orders wait as long as it says.
    acme.fail(|faults| (faults.expired, faults.rate_limited) = (1, (1, 6)));
    deploy(&cloud, &["shop.sc.test", "more.sc.test"]).await;
    secure(https, "more.sc.test", &acme.ca()).await;
    let seen = acme.seen();
    let limited = seen.limited.first().expect("it was refused once");
    let next = seen.orders.iter().find(|(host, _)| host == "more.sc.test").expect("it was ordered");
    assert!(next.1.duration_since(*limited) >= secs(5), "asked again {:?} later", next.1.duration_since(*limited));
    assert_eq!(seen.orders.iter().filter(|(host, _)| host == "more.sc.test").count(), 2, "{seen:?}");

    // Hosts that no authority can vouch for are refused before anything is sent.
    for host in ["*.sc.test", "web.localhost"] {
        let file = format!(
            "[app.bad]\nbinary = \"{}\"\nport = 1\n[[app.bad.route]]\nhost = \"{host}\"\n[app.bad.traffic]\ncertificate = \"acme\"\n",
            sc_tests::program("sc-matrix").display()
        );
        cloud.write("sc.toml", &file);
        cloud.sc(&["deploy"]).await.exits(2).says(&[host, "sc cert add"]);
    }
}

/// `sc cert` with a proxy whose etcd user reads `routes/` and `certs/` and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_added_and_removed_with_a_proxy_of_least_rights() {
    let mut cloud = Cloud::process_not_yet(StateIn::Etcd).await;
    let url = cloud.etcd_url().expect("etcd");
    for words in [
        &["user", "add", "root:secret"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "proxy:proxy"],
        &["role", "add", "proxy"],
        &["role", "grant-permission", "proxy", "--prefix=true", "read", "/sc/v1/routes/"],
        &["role", "grant-permission", "proxy", "--prefix=true", "read", "/sc/v1/certs/"],
        &["role", "grant-permission", "proxy", "--prefix=true", "readwrite", "/sc/v1/proxies/"],
        &["user", "grant-role", "proxy", "proxy"],
        &["auth", "enable"],
    ] {
        ctl(&url, &[], words).await.ok();
    }
    let user = |cloud: &Cloud, name: &str, password: &str| {
        let file = cloud.write(&format!("{name}.password"), password).display().to_string();
        ["--etcd-user", name, "--etcd-password-file", &file].map(str::to_owned)
    };
    cloud.manager_more = user(&cloud, "root", "secret").into();
    let (https, key) = (cloud.slot.addr(), cloud.path("manager/store.key").display().to_string());
    cloud.proxy_more = user(&cloud, "proxy", "proxy").into();
    cloud.proxy_more.extend(["--listen-tls".to_owned(), https.to_string(), "--store-key".to_owned(), key.clone()]);
    cloud.start().await;
    cloud.run("web", &["--host", "shop.sc.test"]).await;

    let authority = Authority::new(cloud.path("").as_path());
    let (cert, private) = authority.sign_for("shop", &["shop.sc.test", "*.sc.test"]);
    let (other, other_private) = authority.sign_for("other", &["shop.sc.test"]);
    let add = async |cert: &str, key: &str| cloud.sc(&["cert", "add", "shop", "--cert", cert, "--key", key]).await;
    add(&cert, &other_private).await.exits(2).says(&["not the certificate's", "nothing was changed"]);
    add("no-such-file", &private).await.exits(1).says(&["no-such-file"]);
    cloud.sc(&["cert", "add", "Shop!", "--cert", &cert, "--key", &private]).await.exits(2).says(&["no name for"]);
    add(&cert, &private).await.ok().says(&["shop is served for *.sc.test, shop.sc.test"]);
    add(&cert, &private).await.ok().says(&["there already"]);
    let mut open = secure(https, "shop.sc.test", &authority.ca_pem()).await;
    let listed = cloud.sc(&["cert", "ls"]).await.ok().says(&["shop", "added", "ok"]);
    assert!(!listed.stdout.contains("PRIVATE"));
    cloud.sc(&["events"]).await.ok().says(&["cert_added"]);

    // A new one under the same name, with a connection open.
    let first = open.cert.clone();
    add(&other, &other_private).await.ok();
    let swapped = async || {
        let now = Secure::connect(https, "shop.sc.test", &authority.ca_pem()).await.expect("always one that is good");
        (now.cert != first).then_some(())
    };
    poll(secs(20), "the new certificate to be served", swapped).await;
    assert_eq!(open.get("/whoami").await.expect("the open connection goes on"), 200);

    // A proxy with another key says so and serves on what it has, also after its own restart; with the right one it goes on.
    cloud.kill_proxy().await;
    let good = std::fs::read_to_string(&key).unwrap();
    let wrong = cloud.write("wrong.key", &"ab".repeat(32)).display().to_string();
    let place = cloud.proxy_more.len() - 1;
    cloud.proxy_more[place] = wrong.clone();
    cloud.resume_proxy().await;
    let told = async || cloud.sc(&["doctor"]).await.stdout.contains("another store key").then_some(());
    poll(secs(30), "doctor to name the wrong key", told).await;
    secure(https, "shop.sc.test", &authority.ca_pem()).await;
    std::fs::write(&wrong, good).unwrap();
    let well = async || (!cloud.sc(&["doctor"]).await.stdout.contains("another store key")).then_some(());
    poll(secs(30), "the right key to be taken up", well).await;

    cloud.sc(&["cert", "rm", "shop"]).await.ok();
    let gone = async || Secure::connect(https, "shop.sc.test", &authority.ca_pem()).await.is_err().then_some(());
    poll(secs(20), "the removed certificate not to be served", gone).await;
    cloud.sc(&["cert", "rm", "shop"]).await.exits(4).says(&["no certificate shop"]);
}
