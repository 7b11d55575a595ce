//! What each algorithm promises, for any number of backends, weights and clients, through [`Upstream::pick`].

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::balance::key::HashKey;
use crate::balance::sticky::Sticky;

/// Least picks of a statistical statement.
const MANY: usize = 4_000;

fn in_flight(upstream: &Upstream) -> Vec<u32> {
    upstream.members().iter().map(|member| member.endpoint.in_flight.load(Relaxed)).collect()
}

/// Picks of each member among `count`, one after the other.
fn picked(upstream: &Upstream, count: usize) -> Vec<usize> {
    let places: HashMap<u64, usize> = upstream.members().iter().enumerate().map(|(at, member)| (member.endpoint.id, at)).collect();
    let mut seen = vec![0; places.len()];
    (0..count).for_each(|_| seen[places[&pick(upstream).unwrap().endpoint().id]] += 1);
    seen
}

/// No limit of connections, so that only the algorithm decides.
fn unbounded(balance: Balance, weights: &[u32]) -> Upstream {
    upstream_with(Settings { protocol: Protocol::H2c, ..settings(balance) }, weights, None)
}

fn weights() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(1u32..8, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// After a whole round each has had its weight exactly, and after any part of one nobody is far from it.
    #[test]
    fn round_robin_is_exact(weights in weights(), rounds in 1usize..4, part in 0usize..40) {
        let upstream = upstream(Balance::RoundRobin, &weights);
        let total: u32 = weights.iter().sum();
        let whole: Vec<usize> = weights.iter().map(|weight| *weight as usize * rounds).collect();
        prop_assert_eq!(picked(&upstream, total as usize * rounds), whole);
        for (at, seen) in picked(&upstream, part).into_iter().enumerate() {
            let due = part as f64 * f64::from(weights[at]) / f64::from(total);
            prop_assert!((seen as f64 - due).abs() <= weights.len() as f64, "{} of {} is {}, due {}", at, part, seen, due);
        }
    }

    /// Shares follow the weights: six standard deviations of a fair draw are allowed.
    #[test]
    fn random_follows_the_weights(weights in weights()) {
        let upstream = upstream(Balance::Random, &weights);
        let total: u32 = weights.iter().sum();
        for (at, seen) in picked(&upstream, MANY).into_iter().enumerate() {
            let share = f64::from(weights[at]) / f64::from(total);
            let (due, deviation) = (MANY as f64 * share, (MANY as f64 * share * (1.0 - share)).sqrt());
            prop_assert!((seen as f64 - due).abs() <= 6.0 * deviation + 1.0, "{} has {}, due {}", at, seen, due);
        }
    }

    /// Whatever ends when, the next request goes where the load by weight is least.
    #[test]
    fn least_connections_takes_the_least(weights in weights(), ends in prop::collection::vec(any::<prop::sample::Index>(), 0..60)) {
        let upstream = unbounded(Balance::LeastConnections, &weights);
        let mut held: Vec<Picked> = (0..20).map(|_| pick(&upstream).unwrap()).collect();
        for end in ends {
            drop(held.swap_remove(end.index(held.len())));
            let before = in_flight(&upstream);
            let load = |at: usize| f64::from(before[at] + 1) / f64::from(weights[at]);
            held.push(pick(&upstream).unwrap());
            let at = in_flight(&upstream).iter().zip(&before).position(|(now, then)| now > then).unwrap();
            let least = (0..weights.len()).map(load).fold(f64::MAX, f64::min);
            prop_assert!(load(at) <= least, "{} of {:?}", at, before);
        }
    }

    /// Two choices keep held requests together: the fullest is a few above the mean, however many there are. One random choice is not
    /// nearly as even.
    #[test]
    fn two_choices_stay_even(count in 2usize..12, each in 5usize..40) {
        let upstream = unbounded(Balance::PowerOfTwo, &vec![1; count]);
        let held: Vec<Picked> = (0..count * each).map(|_| pick(&upstream).unwrap()).collect();
        let most = in_flight(&upstream).into_iter().max().unwrap() as usize;
        prop_assert!(most <= each + 6, "{} with a mean of {}", most, each);
        drop(held);
    }

    /// The faster one gets most of the traffic wherever it stands, and loses it when it becomes the slower one.
    #[test]
    fn ewma_converges_on_the_faster(count in 2usize..6, fast in any::<prop::sample::Index>(), times in 3u64..20) {
        let upstream = unbounded(Balance::Ewma, &vec![1; count]);
        let members = upstream.members();
        let run = |fast: usize| {
            let mut seen = vec![0; count];
            for _ in 0..MANY {
                let picked = pick(&upstream).unwrap();
                let at = members.iter().position(|member| member.endpoint.id == picked.endpoint().id).unwrap();
                let millis = if at == fast { 5 } else { 5 * times };
                picked.endpoint().report(false, Outcome::Success, Duration::from_millis(millis));
                seen[at] += 1;
            }
            seen
        };
        let fast = fast.index(count);
        // It is one of the two that are drawn with this likelihood, and then always taken.
        let drawn = 2.0 / count as f64;
        let seen = run(fast);
        prop_assert!(seen[fast] as f64 > MANY as f64 * drawn * 0.85, "{:?}", seen);
        // A slow answer counts at once, a fast one over time: who has become slow loses its traffic at once.
        let slow = fast;
        let seen = run((fast + 1) % count);
        prop_assert!((seen[slow] as f64) < MANY as f64 / count as f64, "{:?}", seen);
    }

    /// A key stays with its backend; when one is out only its own keys move, and they come back with it.
    #[test]
    fn hashing_disturbs_only_the_keys_of_who_leaves(count in 2usize..10, gone in any::<prop::sample::Index>(), salt in any::<u16>()) {
        let upstream = unbounded(Balance::Hash { key: HashKey::Ip, bound: None }, &vec![1; count]);
        let who = |client: u16| {
            let client = client.wrapping_mul(7).wrapping_add(salt).to_be_bytes();
            pick_as(&upstream, &format!("10.9.{}.{}", client[0], client[1]), &[], &[]).unwrap().endpoint().id
        };
        let all = || (0..400).map(who).collect::<Vec<_>>();
        let before = all();
        prop_assert_eq!(&before, &all());
        let out = upstream.members()[gone.index(count)].endpoint.clone();
        out.set_healthy(false, "");
        for (before, now) in before.iter().zip(all()) {
            prop_assert!(now != out.id && (*before == out.id || *before == now));
        }
        out.set_healthy(true, "");
        prop_assert_eq!(before, all());
    }

    /// A backend that is taken out of the configuration moves its own keys and few others.
    #[test]
    fn a_smaller_set_moves_few_keys(count in 3usize..10, salt in any::<u16>()) {
        let hash = || Balance::Hash { key: HashKey::Ip, bound: None };
        let (all, fewer) = (unbounded(hash(), &vec![1; count]), unbounded(hash(), &vec![1; count - 1]));
        let who = |upstream: &Upstream, client: u16| {
            let client = client.wrapping_mul(11).wrapping_add(salt).to_be_bytes();
            pick_as(upstream, &format!("10.8.{}.{}", client[0], client[1]), &[], &[]).unwrap().endpoint().addr
        };
        let gone = all.members()[count - 1].endpoint.addr;
        let stay: Vec<u16> = (0..2_000).filter(|client| who(&all, *client) != gone).collect();
        let moved = stay.iter().filter(|client| who(&all, **client) != who(&fewer, **client)).count();
        prop_assert!(moved * 10 <= stay.len(), "{} of {} keys that could stay", moved, stay.len());
    }

    /// One key alone cannot load a backend above its bound.
    #[test]
    fn bounded_load_is_bounded(count in 2usize..8, requests in 10usize..120, percent in 110u32..250) {
        let bound = f64::from(percent) / 100.0;
        let upstream = unbounded(Balance::Hash { key: HashKey::Ip, bound: Some(bound) }, &vec![1; count]);
        let held: Vec<Picked> = (0..requests).map(|_| pick(&upstream).unwrap()).collect();
        let most = in_flight(&upstream).into_iter().max().unwrap();
        let allowed = (bound * requests as f64 / count as f64).ceil() + 1.0;
        prop_assert!(f64::from(most) <= allowed, "{} of {} over {}, allowed {}", most, requests, count, allowed);
        drop(held);
    }

    /// A cookie leads to its backend, every time, and to another only while that one is out.
    #[test]
    fn a_sticky_cookie_binds(count in 2usize..8, skip in 0usize..8) {
        let upstream = unbounded(Balance::Sticky(Box::new(Sticky::new("srv", b"a secret of a test", 0))), &vec![1; count]);
        (0..skip).for_each(|_| drop(pick(&upstream)));
        let first = pick(&upstream).unwrap().endpoint().clone();
        let none = head("GET", "/", &[]);
        let picked = pick_as(&upstream, "192.0.2.1", &[], &[]).unwrap();
        let cookie = upstream.sticky_cookie(&picked, &none, false).unwrap();
        let bound = picked.endpoint().clone();
        prop_assert!(count == 1 || bound.id != first.id, "without a cookie they take turns");
        let pair = cookie.split(';').next().unwrap().to_owned();
        let who = || pick_as(&upstream, "198.51.100.7", &[("Cookie", &pair)], &[]).unwrap().endpoint().id;
        prop_assert!((0..20).all(|_| who() == bound.id));
        bound.set_healthy(false, "");
        prop_assert!((0..20).all(|_| who() != bound.id));
        bound.set_healthy(true, "");
        prop_assert_eq!(who(), bound.id);
    }
}
