//! Every image holds a program that runs in it.

use sc_tests::docker::docker;

#[tokio::test]
async fn each_image_runs_on_docker() {
    for (image, args, word) in [
        ("manager", &["--version"][..], "0.1.0"),
        ("proxy", &["--version"], "0.1.0"),
        ("matrix", &["sc-matrix", "--help"], "--slots"),
        ("etcd", &["--version"], "etcd"),
        ("base", &["sh", "-c", "busybox | head -1"], "busybox"),
    ] {
        let tagged = format!("sc/{image}:0.1.0");
        docker(&[&["run", "--rm", "--network", "none", &tagged][..], args].concat()).await.ok().says(&[word]);
    }
}
