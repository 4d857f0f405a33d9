//! The shop in `examples/order-service`, in Python, with RabbitMQ's own client.

use std::{collections::BTreeMap, process::Stdio};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reservd::rpc::pb::ReservationState;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::support::{
    TestBroker, TestServer,
    process::{checkout, finish, tool},
    soon,
};

fn shop(broker: &TestBroker, hold: &str, customers: &[&str]) -> Command {
    let mut shop = tool("python/bin/python");
    shop.arg(checkout("examples/order-service/shop.py"))
        .args(["--broker", &broker.url, "--exchange", &broker.exchange, "--commands", &broker.commands])
        .args(["--name", &broker.exchange, "--hold", hold, "concert"])
        .args(customers);
    shop
}

/// Runs the shop, and returns its output by order.
async fn serve(broker: &TestBroker, customers: &[&str]) -> BTreeMap<String, Vec<String>> {
    let output = finish(shop(broker, "1.5s", customers)).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    let (mut customer_of, mut told) = (BTreeMap::new(), BTreeMap::<String, Vec<String>>::new());
    for line in output.out.lines() {
        let order = line.strip_prefix("order ").and_then(|line| line.split_once(' '));
        let (number, what) = order.expect("it tells of orders");
        let customer = *customer_of.entry(number).or_insert_with(|| what.split(' ').next().unwrap_or_default());
        told.entry(customer.to_owned()).or_default().push(what.to_owned());
    }
    told
}

#[tokio::test]
async fn a_python_shop_sells_over_the_broker_and_receives_expiries() {
    let broker = TestBroker::new().await;
    let server = TestServer::with(&broker.settings()).await;
    server.event("concert", 3).await;
    let told = serve(&broker, &["ann:2:pays"]).await;
    assert_eq!(
        (told["ann"][0].as_str(), &told["ann"][2..]),
        ("ann orders 2", &["is paid", "is confirmed"].map(String::from)[..])
    );
    assert!(told["ann"][1].starts_with("is held until 2") && told["ann"][1].ends_with('Z'), "{told:?}");

    let told = serve(&broker, &["bob:1:forgets", "carla:9:pays", "ann:1:pays"]).await;
    assert!(told["bob"][1].starts_with("is held until 2"), "{told:?}");
    assert_eq!(told["bob"][2..], ["has lapsed: its places are free again"]);
    assert!(told["carla"][1].starts_with("is refused: SOLD_OUT, 9 asked for"), "{told:?}");
    assert!(told["ann"][1].starts_with("is refused: ALREADY_RESERVED"), "{told:?}");

    for (user, state) in [("ann", ReservationState::Confirmed), ("bob", ReservationState::Expired)] {
        assert_eq!(server.reservation("concert", user).await.state(), state, "{user}");
    }
    server.check_and_stop().await;
}

#[tokio::test]
async fn a_shop_that_is_interrupted_says_so_by_its_exit_code() {
    let broker = TestBroker::new().await;
    let server = TestServer::with(&broker.settings()).await;
    server.event("concert", 3).await;
    let mut shop = shop(&broker, "600s", &["bob:1:forgets", "carla:9:pays"]);
    let mut shop = shop.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(shop.stdout.take().expect("it is piped")).lines();
    let (mut held, mut refused) = (false, false);
    while !(held && refused) {
        let line = soon("it tells of orders", lines.next_line()).await.expect("text").expect("it runs");
        held |= line.contains("is held until");
        refused |= line.contains("is refused");
    }
    let pid = i32::try_from(shop.id().expect("it runs")).expect("a pid");
    kill(Pid::from_raw(pid), Signal::SIGINT).expect("it is there");
    let output = soon("it ends", shop.wait_with_output()).await.expect("it can be waited for");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), told.as_ref()), (Some(130), "interrupted: 1 orders are open\n"));
    server.check_and_stop().await;
}
