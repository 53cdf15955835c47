//! Many instances, tenants and jobs on virtual time, over a store in memory: instances are killed,
//! frozen and stopped, beats, calls and answers are lost, messages come late, callers pause, cancel,
//! resume and requeue, publishers fall between handing over and marking. All of it is the same at each
//! run of a seed. Turns, queue, shares, steps, leases, fences, tries and the watch are the code that the
//! service runs.
//!
//! `SIMULATION=full` is the size of docs/reliability.md (`just simulation`); `SIMULATION_SEED` another
//! run.

use std::time::Instant;

use self::load::Size;
use self::world::World;
use crate::domain::request::Priority;

mod checks;
mod load;
mod outbox;
mod world;

#[expect(clippy::disallowed_methods, reason = "the release tier says how much and which run")]
fn size() -> Size {
    let seed = std::env::var("SIMULATION_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(1);
    match std::env::var("SIMULATION").as_deref() {
        Ok("full") => Size {
            jobs: 1_000_000,
            tenants: 10_000,
            instances: 100,
            workers: 10,
            window: 1_000,
            seed,
        },
        _ => Size { jobs: 8_000, tenants: 40, instances: 8, workers: 5, window: 10, seed },
    }
}

/// What must have happened, or the run says little.
const MET: &[&str] = &[
    "beat: lost",
    "bus: away",
    "deed pause: changed",
    "deed resume: illegal",
    "end completed: false",
    "end handed back: true",
    "event: handed over again",
    "failed to queued: requeue",
    "instance: buried alive",
    "instance: frozen",
    "instance: killed",
    "instance: stopped",
    "job: sent again",
    "lease: answer lost",
    "lease: nobody knew",
    "queued to cancelled: cancel",
    "queued to failed: expired",
    "queued to paused: pause",
    "running to cancelled: cancel",
    "running to failed: failed",
    "running to paused: pause",
    "running to queued: lost",
    "running to queued: retried",
];

#[test]
fn jobs_of_many_instances_end_once_in_turn_and_are_told_in_order_whatever_falls() {
    let (begun, size) = (Instant::now(), size());
    let mut world = World::new(size);
    let took = world.run();
    let [completed, dead, erased, cancelled] = world.checks.end();
    let checks = &world.checks;
    println!("{size:?}");
    println!(
        "{:.0} s of virtual time in {:.0?}, {} happenings",
        took.as_secs_f64(),
        begun.elapsed(),
        world.steps
    );
    println!("completed {completed}, dead letters {dead}, expired {erased}, cancelled {cancelled}");
    println!("at no end yet at once: {} at most; restarts {}", world.queued_max, checks.restarts);
    for (what, count) in &checks.counts {
        println!("{count:>10} {what}");
    }
    for (priority, (most, sum, count)) in Priority::ALL.iter().zip(checks.waits) {
        let mean = sum as f64 / 1e3 / count.max(1) as f64;
        println!("{}: waited {mean:.1} s, {:.1} s at most", priority.name(), most as f64 / 1e3);
    }
    println!("overtaken by one greedy tenant {} times at most", checks.overtaken);
    println!("Jain's index, of so many tenants with a backlog: {:?}", checks.jains);
    for what in MET {
        assert!(checks.counts.contains_key(*what), "{what} was never met");
    }
    let (index, of) = checks.jains[0];
    assert!(of >= 10 && index >= 0.95, "{index} of {of}");
}
