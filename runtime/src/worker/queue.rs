//! Whose turn it is.
//!
//! A guest cannot be paused, so who gets how much of the workers is decided when one is free, by three rules:
//!
//! 1. The caller goes first whose tenant has had the least of the workers' time; among equals, who came first.
//! 2. Tenants that are over their share hold at most half of the workers together. Over its share is who has had more time
//!    than the average tenant, or would hold more than its part of the workers at this moment.
//! 3. No more than a number of callers wait. Beyond it, the tenant with the most callers in the queue loses its last.
//!
//! Time is counted while a guest has a worker, and when the worker is lost on the way, until another stands in its place:
//! who breaks workers pays for them. What was long ago counts less: every account is halved every ten seconds. So a tenant
//! of few long guests would look modest before each of them, and what its last guest took is added: the next is likely to
//! take as long, and nothing can be done about it then.
//!
//! All of it is arithmetic: nothing here waits, looks at a clock or knows a process.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How often what everybody has had is halved.
const HALVE_EVERY: Duration = Duration::from_secs(10);

/// How long a tenant is remembered that asks for nothing.
const REMEMBER: Duration = Duration::from_mins(1);

/// Tenants remembered though they ask for nothing now.
const MOST_REMEMBERED: usize = 1024;

/// Who asks. Callers that name nobody are one tenant together.
pub(super) type Tenant = Option<Arc<str>>;

/// A caller's place: waiting, or with a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ticket {
    tenant: Tenant,
    number: u64,
}

impl Ticket {
    /// No other ticket of the queue has this number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

/// Who waits, who has a worker, and what everybody has had. Times are since the queue was made, and never go back.
#[derive(Debug)]
pub(super) struct Queue {
    workers: usize,
    most_waiting: usize,
    accounts: HashMap<Tenant, Account>,
    /// Processes there are, with a guest or without.
    living: usize,
    /// Callers with a worker.
    busy: usize,
    /// Places that stay taken because the worker was lost and no other is there.
    gaps: usize,
    waiting: usize,
    /// Who lost a worker that is not replaced yet, oldest first.
    owing: VecDeque<Ticket>,
    next_number: u64,
    halved: Duration,
}

/// What one tenant has had, has and wants.
#[derive(Debug, Default)]
struct Account {
    had: Duration,
    /// What its last guest took: the next is likely to take as long.
    last: Duration,
    /// When it last asked for something or gave something back.
    seen: Duration,
    waiting: VecDeque<u64>,
    holds: Vec<Hold>,
}

#[derive(Debug)]
struct Hold {
    number: u64,
    begun: Duration,
    /// Since when it is counted; `None` where it no longer is.
    since: Option<Duration>,
    /// It keeps others from a worker.
    takes_place: bool,
}

/// What is fair at one moment.
struct Fair {
    /// The time that the average tenant has had.
    time: Duration,
    /// Workers for each.
    places: usize,
}

impl Queue {
    /// A queue for so many workers, at least one, none of which has come up yet.
    pub(super) fn new(workers: usize, most_waiting: usize) -> Self {
        Self {
            workers: workers.max(1),
            most_waiting,
            accounts: HashMap::new(),
            living: 0,
            busy: 0,
            gaps: 0,
            waiting: 0,
            owing: VecDeque::new(),
            next_number: 0,
            halved: Duration::ZERO,
        }
    }

    /// How many callers wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many processes there are, with a guest or without.
    pub(super) fn living(&self) -> usize {
        self.living
    }

    /// A caller comes. It waits until [`Queue::admit`] says its number.
    pub(super) fn enter(&mut self, tenant: Tenant, now: Duration) -> Ticket {
        self.age(now);
        if !self.accounts.contains_key(&tenant) && self.accounts.len() >= MOST_REMEMBERED {
            self.forget_one();
        }
        let number = self.next_number;
        self.next_number += 1;
        let account = self.accounts.entry(tenant.clone()).or_default();
        account.seen = now;
        account.waiting.push_back(number);
        self.waiting += 1;
        Ticket { tenant, number }
    }

    /// The number of the caller who is to be turned away, where more wait than may. To be asked until it says none.
    pub(super) fn turn_away(&mut self, now: Duration) -> Option<u64> {
        if self.waiting <= self.most_waiting {
            return None;
        }
        let most = self
            .accounts
            .values_mut()
            .filter(|account| !account.waiting.is_empty())
            .max_by_key(|account| {
                let last = account.waiting.back().copied();
                (account.waiting.len(), account.claimed(now), last)
            })?;
        let number = most.waiting.pop_back()?;
        self.waiting -= 1;
        Some(number)
    }

    /// A caller no longer wants to wait. False where it does not: it was admitted or turned away meanwhile.
    pub(super) fn leave(&mut self, ticket: &Ticket) -> bool {
        let Some(account) = self.accounts.get_mut(&ticket.tenant) else {
            return false;
        };
        let Some(at) = account.waiting.iter().position(|number| *number == ticket.number) else {
            return false;
        };
        account.waiting.remove(at);
        self.waiting -= 1;
        true
    }

    /// The number of the caller whose turn it is, if a worker is free that it may have. To be asked until it says none.
    pub(super) fn admit(&mut self, now: Duration) -> Option<u64> {
        self.age(now);
        if self.waiting == 0 || self.busy + self.gaps >= self.workers || self.busy >= self.living {
            return None;
        }
        let fair = self.fair(now);
        let may_go_over = self.held_over(&fair, now) < self.most_over();
        let next = self
            .accounts
            .values_mut()
            .filter(|account| !account.waiting.is_empty())
            .filter(|account| may_go_over || !account.would_be_over(&fair, now))
            .min_by_key(|account| (account.claimed(now), account.waiting.front().copied()))?;
        let number = next.waiting.pop_front()?;
        next.holds.push(Hold {
            number,
            begun: now,
            since: Some(now),
            takes_place: true,
        });
        self.waiting -= 1;
        self.busy += 1;
        Some(number)
    }

    /// A caller is done, and its worker can have another guest. Also where it had none yet, and goes without.
    pub(super) fn release(&mut self, ticket: &Ticket, now: Duration) {
        if self.settle(ticket, now) {
            self.busy -= 1;
        }
    }

    /// A caller is done, and its worker is no more. Where no spare one is there, the place stays taken for now.
    pub(super) fn lose(&mut self, ticket: &Ticket, now: Duration) {
        self.living = self.living.saturating_sub(1);
        let stays_taken = self.living < self.workers;
        let hold = self.accounts.get_mut(&ticket.tenant).and_then(|account| {
            account.seen = now;
            account.holds.iter_mut().find(|hold| hold.number == ticket.number)
        });
        if let Some(hold) = hold {
            hold.takes_place = stays_taken;
            self.busy -= 1;
            self.gaps += usize::from(stays_taken);
            self.owing.push_back(ticket.clone());
        }
    }

    /// A process is no more that had no guest.
    pub(super) fn bury(&mut self) {
        self.living = self.living.saturating_sub(1);
    }

    /// A process has come up. It stands for one that was lost, first for one whose place nobody can take until then.
    pub(super) fn welcome(&mut self, now: Duration) {
        self.living += 1;
        let gap = self.owing.iter().position(|ticket| self.takes_place(ticket));
        if let Some(ticket) = self.owing.remove(gap.unwrap_or(0)) {
            self.replaced(&ticket, now);
        }
    }

    /// A process did not come up, and until somebody asks again none will: nobody is made to pay for that. Places that are
    /// taken stay so, for there is nothing to fill them.
    pub(super) fn forgive(&mut self, now: Duration) {
        let owing = std::mem::take(&mut self.owing);
        for ticket in owing {
            let hold = self.accounts.get_mut(&ticket.tenant).and_then(|account| {
                account.charge(now);
                account.holds.iter_mut().find(|hold| hold.number == ticket.number)
            });
            match hold {
                Some(hold) if hold.takes_place => {
                    hold.since = None;
                    self.owing.push_back(ticket);
                }
                _ => self.replaced(&ticket, now),
            }
        }
    }

    fn replaced(&mut self, ticket: &Ticket, now: Duration) {
        let was_gap = self.takes_place(ticket);
        if self.settle(ticket, now) && was_gap {
            self.gaps -= 1;
        }
    }

    fn takes_place(&self, ticket: &Ticket) -> bool {
        let mut holds = self
            .accounts
            .get(&ticket.tenant)
            .into_iter()
            .flat_map(|account| &account.holds);
        holds.any(|hold| hold.number == ticket.number && hold.takes_place)
    }

    /// Counts what a caller had, and takes it off the books. False where it was not on them.
    fn settle(&mut self, ticket: &Ticket, now: Duration) -> bool {
        let Some(account) = self.accounts.get_mut(&ticket.tenant) else {
            return false;
        };
        let Some(at) = account.holds.iter().position(|hold| hold.number == ticket.number) else {
            return false;
        };
        let hold = account.holds.swap_remove(at);
        account.had += hold.counted(now);
        account.last = now.saturating_sub(hold.begun);
        account.seen = now;
        true
    }

    fn fair(&self, now: Duration) -> Fair {
        let total: Duration = self.accounts.values().map(|account| account.claimed(now)).sum();
        let tenants = self.accounts.len().max(1);
        Fair {
            time: total / u32::try_from(tenants).unwrap_or(u32::MAX),
            places: (self.workers / tenants).max(1),
        }
    }

    /// Workers that tenants have beyond their share.
    fn held_over(&self, fair: &Fair, now: Duration) -> usize {
        self.accounts.values().map(|account| account.held_over(fair, now)).sum()
    }

    /// Half, rounded so that one is left for the others where there are two.
    fn most_over(&self) -> usize {
        (self.workers / 2).max(1)
    }

    /// Halves what everybody has had as often as it is time, and forgets who asks for nothing.
    fn age(&mut self, now: Duration) {
        let times = now.saturating_sub(self.halved).as_secs() / HALVE_EVERY.as_secs();
        let Some(times) = u32::try_from(times).ok().filter(|times| *times > 0) else {
            return;
        };
        self.halved += HALVE_EVERY * times;
        let divisor = 1_u32.checked_shl(times).unwrap_or(u32::MAX);
        self.accounts.retain(|_, account| {
            account.charge(now);
            account.had /= divisor;
            !account.is_idle() || now.saturating_sub(account.seen) < REMEMBER
        });
    }

    /// Makes room for one more tenant, at the least loss: who has had little is soon known again.
    fn forget_one(&mut self) {
        let idle = self.accounts.iter().filter(|(_, account)| account.is_idle());
        let least = idle.min_by_key(|(tenant, account)| (account.had, account.seen, (*tenant).clone()));
        if let Some(tenant) = least.map(|(tenant, _)| tenant.clone()) {
            self.accounts.remove(&tenant);
        }
    }
}

impl Account {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.holds.is_empty()
    }

    fn had_by(&self, now: Duration) -> Duration {
        let running: Duration = self.holds.iter().map(|hold| hold.counted(now)).sum();
        self.had + running
    }

    /// What it has had, and what its next guest is likely to take.
    fn claimed(&self, now: Duration) -> Duration {
        self.had_by(now) + self.last
    }

    /// Writes down what is counted so far.
    fn charge(&mut self, now: Duration) {
        self.had = self.had_by(now);
        for since in self.holds.iter_mut().filter_map(|hold| hold.since.as_mut()) {
            *since = now;
        }
    }

    fn places(&self) -> usize {
        self.holds.iter().filter(|hold| hold.takes_place).count()
    }

    fn has_had_more(&self, fair: &Fair, now: Duration) -> bool {
        self.claimed(now) > fair.time
    }

    fn would_be_over(&self, fair: &Fair, now: Duration) -> bool {
        self.has_had_more(fair, now) || self.places() >= fair.places
    }

    fn held_over(&self, fair: &Fair, now: Duration) -> usize {
        if self.has_had_more(fair, now) {
            self.places()
        } else {
            self.places().saturating_sub(fair.places)
        }
    }
}

impl Hold {
    fn counted(&self, now: Duration) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[expect(clippy::unnecessary_wraps, reason = "callers that name nobody are a tenant too")]
    fn tenant(name: &str) -> Tenant {
        Some(Arc::from(name))
    }

    /// A queue whose processes have all come up.
    fn ready(workers: usize, spare: usize, most_waiting: usize) -> Queue {
        let mut queue = Queue::new(workers, most_waiting);
        for _ in 0..workers + spare {
            queue.welcome(ms(0));
        }
        queue
    }

    /// Gives the tenant a past: a guest that ran so long, alone.
    fn had(queue: &mut Queue, name: &str, from: Duration, long: Duration) {
        let ticket = queue.enter(tenant(name), from);
        assert_eq!(queue.admit(from), Some(ticket.number()), "{name}");
        queue.release(&ticket, from + long);
    }

    fn admitted(queue: &mut Queue, now: Duration) -> Vec<u64> {
        std::iter::from_fn(|| queue.admit(now)).collect()
    }

    #[test]
    fn who_has_had_least_goes_first_whoever_came_first() {
        let mut queue = ready(1, 0, 9);
        had(&mut queue, "much", ms(0), ms(500));
        had(&mut queue, "some", ms(500), ms(100));
        let [much, some, new] = ["much", "some", "new"].map(|name| queue.enter(tenant(name), ms(600)));
        for ticket in [new, some, much] {
            assert_eq!(queue.admit(ms(600)), Some(ticket.number()));
            assert_eq!(queue.admit(ms(600)), None, "there is one worker");
            queue.release(&ticket, ms(600));
        }
    }

    #[test]
    fn callers_of_one_tenant_and_callers_of_nobody_come_in_order() {
        for name in [tenant("one"), None] {
            let mut queue = ready(1, 0, 9);
            let tickets = [(); 3].map(|()| queue.enter(name.clone(), ms(0)));
            for ticket in tickets {
                assert_eq!(queue.admit(ms(0)), Some(ticket.number()));
                queue.release(&ticket, ms(1));
            }
        }
    }

    #[test]
    fn a_lone_tenant_has_every_worker() {
        let mut queue = ready(4, 1, 9);
        let tickets = [(); 5].map(|()| queue.enter(None, ms(0)));
        let numbers = tickets.each_ref().map(Ticket::number);
        assert_eq!(admitted(&mut queue, ms(0)), numbers[..4]);
    }

    #[test]
    fn tenants_over_their_share_hold_half_and_leave_one() {
        for (workers, half) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (8, 4)] {
            let mut queue = ready(workers, 1, 99);
            had(&mut queue, "greedy", ms(0), ms(900));
            had(&mut queue, "hungry", ms(900), ms(900));
            had(&mut queue, "modest", ms(1800), ms(1));
            let greedy: Vec<u64> = (0..8)
                .map(|turn| queue.enter(tenant(["greedy", "hungry"][turn % 2]), ms(2000)).number())
                .collect();
            let given = admitted(&mut queue, ms(2000));
            assert_eq!(given.len(), half, "of {workers}");
            assert!(given.iter().all(|number| greedy.contains(number)));
            // The other half is there for whoever is not over its share, at once.
            let modest = queue.enter(tenant("modest"), ms(2000));
            let expected = (workers > 1).then(|| modest.number());
            assert_eq!(queue.admit(ms(2000)), expected, "of {workers}");
        }
    }

    #[test]
    fn a_tenant_without_a_past_has_its_part_of_the_workers_and_half_at_most() {
        let mut queue = ready(8, 1, 99);
        for name in ["a", "b", "c"] {
            had(&mut queue, name, ms(0), ms(10));
        }
        for _ in 0..8 {
            queue.enter(tenant("new"), ms(20));
        }
        // Four tenants: two workers are its part, and four more are beyond it.
        assert_eq!(admitted(&mut queue, ms(20)).len(), 6);
    }

    #[test]
    fn a_guest_that_still_runs_counts() {
        let mut queue = ready(2, 0, 9);
        had(&mut queue, "quick", ms(0), ms(10));
        queue.enter(tenant("slow"), ms(10));
        assert!(queue.admit(ms(10)).is_some());
        let slow = queue.enter(tenant("slow"), ms(60));
        let quick = queue.enter(tenant("quick"), ms(70));
        assert_eq!(queue.admit(ms(70)), Some(quick.number()));
        assert_eq!(queue.admit(ms(70)), None, "{} waits", slow.number());
    }

    #[test]
    fn who_loses_a_worker_pays_until_another_stands_there() {
        let mut queue = ready(1, 1, 9);
        let crash = queue.enter(tenant("crash"), ms(0));
        assert!(queue.admit(ms(0)).is_some());
        queue.lose(&crash, ms(1));
        queue.welcome(ms(41));
        had(&mut queue, "honest", ms(41), ms(40));
        let crash = queue.enter(tenant("crash"), ms(90));
        let honest = queue.enter(tenant("honest"), ms(90));
        assert_eq!(queue.admit(ms(90)), Some(honest.number()), "before {}", crash.number());
    }

    #[test]
    fn a_lost_worker_keeps_nobody_waiting_while_there_is_a_spare_one() {
        let mut queue = ready(1, 1, 9);
        let [first, second, third] = ["a", "b", "c"].map(|name| queue.enter(tenant(name), ms(0)));
        assert_eq!(queue.admit(ms(0)), Some(first.number()));
        queue.lose(&first, ms(1));
        assert_eq!(queue.admit(ms(1)), Some(second.number()));
        queue.lose(&second, ms(2));
        assert_eq!(queue.admit(ms(2)), None, "no process is left");
        queue.welcome(ms(3));
        assert_eq!(queue.admit(ms(3)), Some(third.number()));
    }

    #[test]
    fn a_crowd_is_cut_where_it_is_thickest() {
        let mut queue = ready(1, 0, 4);
        let busy = queue.enter(tenant("busy"), ms(0));
        assert_eq!(queue.admit(ms(0)), Some(busy.number()));
        let flood = [(); 4].map(|()| queue.enter(tenant("flood"), ms(1)));
        assert_eq!(queue.turn_away(ms(1)), None, "four may wait");
        let modest = queue.enter(tenant("modest"), ms(2));
        assert_eq!(queue.turn_away(ms(2)), Some(flood[3].number()));
        assert_eq!(queue.turn_away(ms(2)), None);
        assert!(!queue.leave(&flood[3]) && queue.leave(&modest));
        // One more of the flood finds the queue full of itself.
        queue.enter(tenant("modest"), ms(3));
        let late = queue.enter(tenant("flood"), ms(3));
        assert_eq!(queue.turn_away(ms(3)), Some(late.number()));
        assert_eq!(queue.waiting(), 4);
    }

    #[test]
    fn a_tenant_is_forgotten_after_a_while_and_its_past_fades_before() {
        let mut queue = ready(1, 0, 9);
        had(&mut queue, "old", ms(0), ms(8000));
        had(&mut queue, "new", ms(10_001), ms(3000));
        // Halved at 10 s and at 20 s, and the new one's at 20 s: 2000 against 1500.
        let [old, new] = ["old", "new"].map(|name| queue.enter(tenant(name), ms(20_000)));
        assert_eq!(queue.admit(ms(20_000)), Some(new.number()));
        queue.release(&new, ms(20_000));
        assert!(queue.leave(&old));
        assert_eq!(queue.accounts.len(), 2);
        queue.enter(None, ms(90_000));
        assert_eq!(queue.accounts.len(), 1);
    }

    #[test]
    fn the_book_is_bounded_and_keeps_those_who_had_most() {
        let mut queue = ready(1, 0, 9);
        had(&mut queue, "greedy", ms(0), ms(100));
        for number in 0..2 * MOST_REMEMBERED as u64 {
            had(&mut queue, &number.to_string(), ms(200), ms(1));
        }
        assert_eq!(queue.accounts.len(), MOST_REMEMBERED);
        assert!(queue.accounts.contains_key(&tenant("greedy")));
    }

    #[test]
    fn nobody_pays_for_a_process_that_did_not_come_up() {
        let mut queue = ready(1, 1, 9);
        let tickets = [(); 2].map(|()| queue.enter(tenant("a"), ms(0)));
        for ticket in &tickets {
            assert_eq!(queue.admit(ms(0)), Some(ticket.number()));
            queue.lose(ticket, ms(10));
        }
        queue.forgive(ms(20));
        let account = &queue.accounts[&tenant("a")];
        assert_eq!(account.had_by(ms(20)), ms(40));
        assert_eq!(account.had_by(ms(9000)), ms(40));
        assert_eq!(account.holds.len(), 1, "one place has no process");
        queue.welcome(ms(9000));
        assert!(queue.accounts[&tenant("a")].holds.is_empty());
    }

    /// Who had much comes back into its turn, though others never stop asking: they have more and more.
    #[test]
    fn nobody_starves() {
        let mut queue = ready(2, 0, 99);
        had(&mut queue, "heavy", ms(0), ms(3000));
        let mut now = ms(3000);
        let heavy = queue.enter(tenant("heavy"), now);
        let mut running: Vec<Ticket> = Vec::new();
        let mut waiting: BTreeMap<u64, Ticket> = BTreeMap::new();
        for name in ["a", "b", "c", "d"] {
            let ticket = queue.enter(tenant(name), now);
            waiting.insert(ticket.number(), ticket);
        }
        for _ in 0..200 {
            for number in admitted(&mut queue, now) {
                if number == heavy.number() {
                    return;
                }
                running.extend(waiting.remove(&number));
            }
            now += ms(100);
            let done = running.remove(0);
            queue.release(&done, now);
            let again = queue.enter(done.tenant, now);
            waiting.insert(again.number(), again);
        }
        panic!("two hundred guests of others ran first");
    }

    /// Honest tenants ask for a millisecond now and then; hostile ones ask again at once, for as long as they may.
    struct World {
        workers: usize,
        honest: usize,
        hostile: usize,
        hostile_guest: Duration,
    }

    impl World {
        /// From asking to having had it: the honest tenants' 99th of 100, when all have been there for a while.
        fn slowest_but_one_of_100(&self) -> Duration {
            let mut queue = ready(self.workers, 1, 999);
            // When, and what: a tenant asks, or the ticket of a tenant is done.
            let mut events: BTreeMap<(Duration, usize), Option<Ticket>> = BTreeMap::new();
            for number in 0..self.honest + self.hostile {
                events.insert((ms(number as u64), number), None);
            }
            let mut asked: HashMap<u64, (usize, Duration, Ticket)> = HashMap::new();
            let mut taken = Vec::new();
            while let Some(((now, number), done)) = events.pop_first() {
                let is_honest = number < self.honest;
                let pause = if is_honest { ms(180 + number as u64 % 47) } else { ms(0) };
                match done {
                    Some(ticket) => {
                        queue.release(&ticket, now);
                        events.insert((now + pause, number), None);
                    }
                    None => {
                        let ticket = queue.enter(tenant(&number.to_string()), now);
                        asked.insert(ticket.number(), (number, now, ticket));
                    }
                }
                for admitted in admitted(&mut queue, now) {
                    let (number, since, ticket) = asked.remove(&admitted).expect("it waits");
                    let is_honest = number < self.honest;
                    let end = now + if is_honest { ms(1) } else { self.hostile_guest };
                    if is_honest && now > ms(40_000) {
                        taken.push(end.saturating_sub(since));
                    }
                    events.insert((end, number), Some(ticket));
                }
                if now > ms(160_000) {
                    break;
                }
            }
            taken.sort_unstable();
            taken[taken.len() * 99 / 100]
        }
    }

    /// However long the hostile half's guests may run: no clock and no machine is in this, only who is called when.
    #[test]
    fn a_hostile_half_costs_the_honest_half_no_more_than_half_of_the_workers() {
        for (workers, millis) in [(2, 5), (2, 130), (2, 2030), (4, 2030)] {
            let world = |workers, hostile| World {
                workers,
                honest: 32,
                hostile,
                hostile_guest: ms(millis),
            };
            let alone = world(workers / 2, 0).slowest_but_one_of_100();
            let beside = world(workers, 32).slowest_but_one_of_100();
            assert!(
                beside * 2 <= alone * 3,
                "{workers} workers, {millis} ms: {beside:?}, alone {alone:?}"
            );
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Enter(u8),
        Leave(usize),
        Release(usize),
        Lose(usize),
        Welcome,
        Fail,
        Bury,
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..6_u8).prop_map(Step::Enter),
            1 => any::<usize>().prop_map(Step::Leave),
            4 => any::<usize>().prop_map(Step::Release),
            2 => any::<usize>().prop_map(Step::Lose),
            2 => Just(Step::Welcome),
            1 => Just(Step::Fail),
            1 => Just(Step::Bury),
            2 => (0..12_000_u64).prop_map(Step::Pass),
        ]
    }

    /// What anybody can know who only sees calls and answers.
    struct Model {
        queue: Queue,
        workers: usize,
        most_waiting: usize,
        now: Duration,
        processes: usize,
        waiting: BTreeMap<u64, Ticket>,
        running: BTreeMap<u64, Ticket>,
    }

    fn nth(tickets: &BTreeMap<u64, Ticket>, at: usize) -> Option<u64> {
        tickets.keys().nth(at.checked_rem(tickets.len())?).copied()
    }

    impl Model {
        fn take(&mut self, step: &Step) {
            match *step {
                Step::Enter(name) => {
                    let name = (name > 0).then(|| Arc::from(name.to_string()));
                    let ticket = self.queue.enter(name, self.now);
                    self.waiting.insert(ticket.number(), ticket);
                }
                Step::Leave(at) => {
                    if let Some(ticket) = nth(&self.waiting, at).and_then(|number| self.waiting.remove(&number)) {
                        assert!(self.queue.leave(&ticket) && !self.queue.leave(&ticket));
                    }
                }
                Step::Release(at) => {
                    if let Some(ticket) = nth(&self.running, at).and_then(|number| self.running.remove(&number)) {
                        self.queue.release(&ticket, self.now);
                    }
                }
                Step::Lose(at) => {
                    if let Some(ticket) = nth(&self.running, at).and_then(|number| self.running.remove(&number)) {
                        self.queue.lose(&ticket, self.now);
                        self.processes -= 1;
                    }
                }
                Step::Welcome if self.processes <= self.workers => {
                    self.queue.welcome(self.now);
                    self.processes += 1;
                }
                Step::Welcome => {}
                Step::Fail => self.queue.forgive(self.now),
                Step::Bury => {
                    if self.processes > self.running.len() {
                        self.queue.bury();
                        self.processes -= 1;
                    }
                }
                Step::Pass(millis) => self.now += ms(millis),
            }
            self.call();
        }

        fn call(&mut self) {
            self.queue.age(self.now);
            loop {
                let fair = self.queue.fair(self.now);
                let over = |queue: &Queue| queue.held_over(&fair, self.now);
                let before = over(&self.queue);
                let Some(number) = self.queue.admit(self.now) else {
                    self.assert_full(&fair, before);
                    break;
                };
                // Nobody but who waited, never more than there are workers and processes.
                let ticket = self.waiting.remove(&number).expect("it waited");
                let after = over(&self.queue);
                assert!(
                    after == before || after <= (self.workers / 2).max(1),
                    "{before} {after}"
                );
                self.running.insert(number, ticket);
                assert!(self.running.len() <= self.workers.min(self.processes));
            }
            while let Some(number) = self.queue.turn_away(self.now) {
                assert!(self.waiting.remove(&number).is_some());
            }
            assert!(self.waiting.len() <= self.most_waiting);
            assert_eq!(self.queue.waiting(), self.waiting.len());
            assert_eq!(self.queue.living(), self.processes);
            assert_eq!(self.queue.busy, self.running.len());
        }
    }

    impl Model {
        /// Nobody is called: nobody waits, no worker is free, or those who wait are over their share and others who are
        /// have their half.
        fn assert_full(&self, fair: &Fair, held_over: usize) {
            let queue = &self.queue;
            let is_free = queue.busy + queue.gaps < self.workers && queue.busy < self.processes;
            let mut waiting = queue.accounts.values().filter(|account| !account.waiting.is_empty());
            assert!(
                !is_free
                    || held_over >= (self.workers / 2).max(1)
                        && waiting.all(|account| account.would_be_over(fair, self.now))
                    || self.waiting.is_empty(),
                "a worker is free, and somebody waits who may have it"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever happens in whatever order: no more guests than workers, no more callers than may wait, nobody called who
        /// did not wait; and in the end, when the processes are there again, everybody gets a worker and all are free.
        #[test]
        fn no_caller_and_no_worker_is_lost(
            workers in 1..6_usize,
            most_waiting in 0..9_usize,
            steps in prop::collection::vec(step(), 0..120),
        ) {
            let mut model = Model {
                queue: ready(workers, 1, most_waiting),
                workers,
                most_waiting,
                now: ms(0),
                processes: workers + 1,
                waiting: BTreeMap::new(),
                running: BTreeMap::new(),
            };
            for step in &steps {
                model.take(step);
            }
            while model.processes <= workers {
                model.take(&Step::Welcome);
            }
            for _ in 0..=steps.len() {
                model.take(&Step::Pass(1));
                model.take(&Step::Release(0));
            }
            prop_assert!(model.waiting.is_empty() && model.running.is_empty());
            for _ in 0..workers {
                model.take(&Step::Enter(1));
            }
            if most_waiting >= workers {
                // One tenant and nobody else who is remembered has all of them again.
                model.take(&Step::Pass(120_000));
                model.take(&Step::Release(0));
                model.take(&Step::Enter(1));
                prop_assert_eq!(model.running.len(), workers);
            }
        }
    }
}
