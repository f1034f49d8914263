//! `sc up --etcd URL,…`: the state in a cluster that somebody else runs, with TLS on both sides and a user.

use sc_tests::{Cloud, Etcd, certificates::Authority, docker::containers, etcd::ctl};

/// Certificates, user and two endpoints (one of them dead) get to manager and proxy; without them nothing works, and
/// what is wrong is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_with_tls_and_a_user_on_docker() {
    let mut cloud = Cloud::docker_not_yet(&[]);
    let authority = Authority::new(cloud.path("").as_path());
    let ((server, server_key), (client, client_key)) = (authority.sign("server"), authority.sign("client"));
    let ca = authority.ca();
    let files = [("--cert-file", &server), ("--key-file", &server_key), ("--trusted-ca-file", &ca)];
    let mut arguments: Vec<String> = files.iter().map(|(flag, file)| format!("{flag}={file}")).collect();
    arguments.push("--client-cert-auth=true".to_owned());
    let tls = ["--cacert", &ca, "--cert", &client, "--key", &client_key].map(str::to_owned);
    let etcd = Etcd::start_with_tls(&cloud.slot, cloud.path("etcd"), arguments, tls.clone().into()).await;
    let url = etcd.url();
    for words in [
        &["user", "add", "root:secret"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "sc:pass word"],
        &["role", "add", "sc"],
        &["role", "grant-permission", "sc", "--prefix=true", "readwrite", "/sc/v1/"],
        &["user", "grant-role", "sc", "sc"],
        &["auth", "enable"],
    ] {
        ctl(&url, &tls, words).await.ok();
    }

    let password = cloud.write("password", "pass word\n").display().to_string();
    let dead = format!("https://{}", cloud.slot.addr());
    let way = [
        format!("--etcd={dead},{url}"),
        format!("--etcd-ca={ca}"),
        format!("--etcd-cert={client}"),
        format!("--etcd-key={client_key}"),
        "--etcd-user=sc".to_owned(),
        format!("--etcd-password-file={password}"),
    ];
    cloud.more = way.to_vec();
    cloud.up().await.ok();
    let names: Vec<_> = containers(&cloud.name).await.into_iter().map(|found| found.name).collect();
    assert_eq!(names, [format!("{}-manager", cloud.name), format!("{}-proxy", cloud.name)], "no etcd of our own");
    cloud.run("web", &["--host", "web.localhost"]).await;
    cloud.serves("web.localhost", "/whoami").await;
    let as_sc = [&tls[..], &["--user=sc:pass word".to_owned()]].concat();
    let kept = ctl(&url, &as_sc, &["get", "--prefix", "/sc/v1/", "--keys-only"]).await;
    kept.ok().says(&["/sc/v1/default/apps/web", "/sc/v1/proxies/"]);

    // Each mistake is told apart before a container is changed.
    for (change, words) in [
        (vec![format!("--etcd={url}"), format!("--etcd-ca={password}")], "is no PEM file"),
        (vec![format!("--etcd={url}"), "--etcd-ca=no-such-file".to_owned()], "no-such-file"),
        (vec![format!("--etcd={}", dead.replace("https", "http")), format!("--etcd-ca={ca}")], "without TLS"),
        (vec!["--etcd=1".to_owned(), format!("--etcd-ca={ca}")], "give its URLs with --etcd"),
        (vec![format!("--etcd={url}"), "--network=bridge".to_owned()], "each container itself"),
    ] {
        cloud.more = change;
        let out = cloud.up().await;
        assert!(out.code == 1 || out.code == 2, "{out:?}");
        out.says(&[words]);
    }
    cloud.serves("web.localhost", "/whoami").await;
}
