//! What the proxies are told while the load is more than the maximum of replicas takes.

use crate::world::{Program, World, app_id, networks, route, spec};
use sc_core::{
    AppId,
    records::{App, Scale, Shed, key},
    spec::{AppSpec, Traffic},
};

/// An app that is scaled by itself, with one ready replica.
fn scaled(traffic: Traffic) -> (World, AppId) {
    let (mut world, web) = (World::new(networks()), app_id("web"));
    let spec = AppSpec { routes: vec![route("web.example")], traffic, ..spec(Some(80)) };
    world.deploy(&web, spec, 1, Program::Good);
    world.edit::<App>(&key::app(&web), |app| app.scale.auto = true);
    world.converge(25, 20);
    (world, web)
}

fn shed(world: &mut World, web: &AppId, shed: Option<Shed>) {
    world.edit::<Scale>(&key::scale(web), |scale| scale.shed = shed);
    world.publish();
}

/// What is published: requests at once, and how long others wait.
fn bounds(world: &World, web: &AppId) -> (Option<u32>, u64) {
    let traffic = world.desired().apps[web].published.clone().unwrap().routes.traffic;
    (traffic.max_in_flight, traffic.queue_timeout_ms)
}

const SHED: Shed = Shed { in_flight: 9, queue_ms: 50 };

#[test]
fn each_proxy_gets_its_part_and_the_users_own_bounds_hold_where_they_are_lower() {
    let (mut world, web) = scaled(Traffic::default());
    let usual = bounds(&world, &web);
    shed(&mut world, &web, Some(SHED));
    assert_eq!(bounds(&world, &web), (Some(9), 50));
    world.add_proxy("p2");
    world.publish();
    assert_eq!(bounds(&world, &web), (Some(5), 50));
    shed(&mut world, &web, None);
    assert_eq!(bounds(&world, &web), usual);

    let own = Traffic { max_in_flight: Some(4), queue_timeout_ms: 20, ..Traffic::default() };
    let (mut world, web) = scaled(own);
    shed(&mut world, &web, Some(SHED));
    assert_eq!(bounds(&world, &web), (Some(4), 20));
}

#[test]
fn an_app_without_a_replica_or_scaled_by_hand_is_not_bounded() {
    let (mut world, web) = scaled(Traffic::default());
    shed(&mut world, &web, Some(SHED));
    world.edit::<App>(&key::app(&web), |app| app.scale.auto = false);
    world.publish();
    assert_eq!(bounds(&world, &web).0, None);
    world.edit::<App>(&key::app(&web), |app| app.scale.auto = true);
    world.scale(&web, 0);
    world.converge(25, 40);
    assert_eq!(bounds(&world, &web), (None, Traffic::default().queue_timeout_ms), "requests wait for a replica");
}
