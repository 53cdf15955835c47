//! Thousands of random faults: what was acknowledged is there once. `EVIDENCE_FAULTS` says how many;
//! `just durability` sets 10 000.

use std::collections::BTreeSet;

use super::super::spool::{Damage, SpoolError};
use super::stores::Faults;
use super::*;

/// How many faults of each kind are tried.
#[expect(clippy::disallowed_methods, reason = "the release tier says how many")]
fn tries() -> u64 {
    std::env::var("EVIDENCE_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

/// SplitMix64: small, and every failure names its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

fn spool(medium: &Memory) -> Spool {
    Spool::open(Box::new(medium.clone()), 1 << 20).unwrap()
}

fn ids(spool: &mut Spool) -> Vec<String> {
    let count = spool.len();
    spool.front(count).0.into_iter().map(|decision| decision.id).collect()
}

/// A spool with frames of different lengths, and where each begins.
fn filled(count: u64) -> (Memory, Vec<usize>) {
    let medium = Memory::default();
    let mut spool = spool(&medium);
    let mut starts = Vec::new();
    for n in 0..count {
        starts.push(medium.bytes().len());
        let record = "x".repeat((n as usize * 37) % 300);
        let row = Decision { record, ..decision(n) };
        assert!(matches!(spool.append(&[&row]), (1, None)));
    }
    (medium, starts)
}

#[test]
fn a_spool_torn_at_any_offset_keeps_every_whole_frame_and_cuts_the_rest() {
    let (medium, starts) = filled(12);
    let bytes = medium.synced();
    for cut in 0..=bytes.len() {
        let torn = Memory::of(bytes[..cut].to_vec());
        let mut opened = spool(&torn);
        let whole = starts.iter().skip(1).chain([&bytes.len()]).filter(|end| **end <= cut).count();
        assert_eq!(ids(&mut opened), (0..whole).map(|n| n.to_string()).collect::<Vec<_>>());
        let left = cut - starts.get(whole).copied().unwrap_or(bytes.len()).min(cut);
        let damage = Damage { torn_bytes: left as u64, ..Damage::default() };
        assert_eq!(opened.damage(), damage, "torn at {cut}");
        // What comes next is read again after the cut.
        assert!(matches!(opened.append(&[&decision("next")]), (1, None)));
        assert_eq!(ids(&mut spool(&torn)).len(), whole + 1);
    }
}

#[test]
fn one_flipped_bit_is_found_wherever_it_is() {
    let (medium, starts) = filled(12);
    let bytes = medium.synced();
    let mut random = Random(1);
    let last = starts[11];
    for n in 0..tries() {
        let mut changed = bytes.clone();
        let at = random.below(bytes.len() as u64) as usize;
        changed[at] ^= 1 << random.below(8);
        let flipped = Memory::of(changed.clone());
        let mut opened = spool(&flipped);
        let Damage { frames, torn_bytes, .. } = opened.damage();
        assert!(frames == 1 || (torn_bytes > 0 && at >= last), "{n}: {at} {:?}", opened.damage());
        if frames == 1 {
            assert_eq!(flipped.aside(), Some(changed), "kept for people");
        }
        assert_eq!(ids(&mut opened).len(), 11, "{n}: the others are read");
    }
}

#[test]
fn a_bit_that_flips_after_opening_is_found_before_the_frame_is_believed() {
    let (medium, starts) = filled(3);
    let mut opened = spool(&medium);
    let mut bytes = medium.bytes();
    bytes[starts[1] + 40] ^= 4;
    let mut other = medium.clone();
    use super::super::spool::Medium as _;
    other.write_at(0, &bytes).unwrap();
    let (found, taken) = opened.front(3);
    assert_eq!((found.len(), taken), (2, 3));
    assert_eq!(opened.damage().frames, 1);
    assert!(medium.aside().is_some());
}

#[test]
fn after_a_power_loss_everything_acknowledged_is_there() {
    let mut random = Random(2);
    for n in 0..tries() {
        let medium = Memory::default();
        let mut opened = spool(&medium);
        let (mut acknowledged, mut row) = (Vec::new(), 0);
        for _ in 0..1 + random.below(8) {
            let batch: Vec<Decision> = (0..1 + random.below(5))
                .map(|_| {
                    row += 1;
                    decision(format!("{n}-{row}"))
                })
                .collect();
            match random.below(6) {
                0 => medium.fail(5),
                1 => medium.fail(28),
                _ => {}
            }
            let (kept, _) = opened.append(&batch.iter().collect::<Vec<_>>());
            acknowledged.extend(batch.into_iter().take(kept).map(|row| row.id));
        }
        // What was not synced is lost, or a part of it is there.
        let (synced, written) = (medium.synced(), medium.bytes());
        let torn = random.below((written.len().saturating_sub(synced.len()) + 1) as u64) as usize;
        let mut left = synced.clone();
        left.extend(written.iter().skip(synced.len()).take(torn));
        let found: BTreeSet<String> = ids(&mut spool(&Memory::of(left))).into_iter().collect();
        for id in &acknowledged {
            assert!(found.contains(id), "{n}: {id} was acknowledged and is gone");
        }
    }
}

#[test]
fn a_full_disk_keeps_what_was_there_and_a_failed_one_says_so() {
    let (medium, _) = filled(2);
    let mut opened = spool(&medium);
    medium.fail(28);
    let (kept, why) = opened.append(&[&decision("full")]);
    assert!(kept == 0 && matches!(why, Some(SpoolError::Unwritable(_))), "{why:?}");
    medium.fail(5);
    let (kept, why) = opened.append(&[&decision("failed")]);
    assert!(kept == 0 && matches!(why, Some(SpoolError::Broken(_))), "{why:?}");
    assert!(matches!(opened.append(&[&decision("again")]), (1, None)));
    assert_eq!(ids(&mut spool(&medium)), ["0", "1", "again"]);
}

#[test]
fn a_spool_on_disk_is_its_owners_and_held_by_one_process() {
    use super::super::spool::OnDisk;
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data/evidence.spool");
    let mut opened = Spool::open(Box::new(OnDisk::open(&path).unwrap()), 1 << 20).unwrap();
    assert!(matches!(opened.append(&[&decision(1), &decision(2)]), (2, None)));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let second = OnDisk::open(&path).err().unwrap().to_string();
    assert!(second.contains("another process holds it"), "{second}");
    drop(opened);
    let mut again = Spool::open(Box::new(OnDisk::open(&path).unwrap()), 1 << 20).unwrap();
    assert_eq!(ids(&mut again), ["1", "2"]);
    again.forget(2);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    drop(again);
    let text = "no frames at all, although somebody wrote something here";
    std::fs::write(&path, text).unwrap();
    let odd = Spool::open(Box::new(OnDisk::open(&path).unwrap()), 1 << 20).unwrap();
    let damage = Damage { frames: 1, bytes: text.len() as u64, torn_bytes: 0 };
    assert_eq!((odd.is_empty(), odd.damage()), (true, damage));
    let aside = path.with_file_name("evidence.spool.damaged");
    assert_eq!(std::fs::read_to_string(aside).unwrap(), text, "kept for people");
}

#[tokio::test]
async fn a_deleted_file_or_a_closed_store_gives_no_strict_answer() {
    for close in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.db");
        let store = Arc::new(Sqlite::open(&SqliteOptions::at(Place::File(path.clone()))).unwrap());
        let medium = Memory::default();
        let log = log(store.clone(), &medium);
        log.append_strict(decision("before")).await.unwrap();
        if close {
            crate::store::Store::close(&*store);
        } else {
            std::fs::remove_file(&path).unwrap();
        }
        for n in 0..tries() {
            assert!(log.append_strict(decision(n)).await.is_err(), "{n} {close}");
        }
        log.append(decision("spooled")).unwrap();
        log.close().await;
        assert_eq!(ids(&mut spool(&medium)), ["spooled"]);
    }
}

/// One life of a service: random records while the store fails at random, then an end that nobody
/// expects, or an orderly one.
async fn life(
    random: &mut Random,
    (store, faults): (&Arc<Faulty>, &Faults),
    medium: &Memory,
) -> Told {
    let mut told = Told::default();
    let (log, sequencer) = Log::new(options(store.clone(), medium));
    let task = tokio::spawn(sequencer.run());
    let mut strict = Vec::new();
    for _ in 0..20 {
        faults.set(match random.below(8) {
            0 => Some(Fault::Hang),
            1 => Some(Fault::Refuse),
            2 => Some(Fault::Lose),
            _ => None,
        });
        medium.fill(random.below(8) == 0);
        told.faults += 1;
        for _ in 0..random.below(4) {
            let id = format!("{:016x}", random.next());
            if random.below(2) == 0 {
                let log = log.clone();
                strict.push(tokio::spawn(async move {
                    let begun = Instant::now();
                    let answer = log.append_strict(decision(&id)).await;
                    assert!(begun.elapsed() <= Duration::from_millis(251), "a strict one waited");
                    answer.ok().map(|proof| {
                        check(&proof, &decision(&id).record);
                        id
                    })
                }));
            } else {
                log.append(decision(&id)).unwrap();
                told.standard.push((Instant::now(), id));
            }
        }
        tokio::time::sleep(Duration::from_millis(random.below(120))).await;
    }
    let (end, held) = (Instant::now(), log.stats().held);
    medium.fill(false);
    if random.below(2) == 0 {
        faults.set(None);
        log.close().await;
    } else {
        // What only memory has then goes with it: the last that were told so, or nobody was yet.
        let durable =
            |(at, _): &(Instant, String)| end.duration_since(*at) > Duration::from_millis(100);
        told.standard.retain(durable);
        told.standard.truncate(told.standard.len().saturating_sub(held as usize));
        task.abort();
        // The store outlives us and may take what hung.
        faults.set(None);
    }
    for one in strict {
        told.strict.extend(one.await.unwrap());
    }
    assert_eq!(log.stats().lost, 0);
    told
}

#[derive(Default)]
struct Told {
    faults: u64,
    strict: Vec<String>,
    standard: Vec<(Instant, String)>,
}

#[tokio::test(start_paused = true)]
async fn of_thousands_of_faults_none_loses_or_doubles_what_was_acknowledged() {
    let (mut done, mut strict, mut standard) = (0, 0, 0);
    for seed in 0.. {
        let mut random = Random(seed);
        let (store, faults) = Faulty::new();
        let mut medium = Memory::default();
        let (mut promised, mut later) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let told = life(&mut random, (&store, &faults), &medium).await;
            done += told.faults;
            promised.extend(told.strict);
            later.extend(told.standard.into_iter().map(|(_, id)| id));
            // Power goes: only what was synced is there at the next start.
            medium = Memory::of(medium.synced());
        }
        let log = log(store.clone(), &medium);
        settled(&log).await;
        log.close().await;
        let kept = store.ids();
        let once: BTreeSet<&String> = kept.iter().collect();
        assert_eq!(once.len(), kept.len(), "seed {seed}: a record is there twice");
        for id in promised.iter().chain(&later) {
            assert!(once.contains(id), "seed {seed}: {id} was acknowledged and is gone");
        }
        (strict, standard) = (strict + promised.len(), standard + later.len());
        if done >= tries() {
            break;
        }
    }
    println!("{done} faults: of {strict} strict and {standard} standard records 0 lost, 0 twice");
}
