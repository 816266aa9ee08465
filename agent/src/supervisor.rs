//! Owns the attempts on this host: the one place where orders of the coordinator meet them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use muster_core::ids::AttemptId;
use muster_core::image::Image;
use muster_core::time::Timestamp;
use muster_proto::v1 as pb;
use muster_proto::v1::order::Kind;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::attempt::{self, ATTEMPTS, Control, Origin, Shared, Starting, StopOrder};
use crate::journal::{self, History};
use crate::offer::{Refusal, Task};
use crate::outcome::KillReason;
use crate::runtime::Runtime;
use crate::wire::{self, seq};

/// Prefetches that all agents are asked for are spread over so long.
const PREFETCH_JITTER_MS: u64 = 2_000;

/// What the session tells the supervisor.
pub(crate) enum Message {
    Orders {
        cluster: String,
        term: u64,
        orders: Vec<pb::Order>,
    },
    /// Everything it holds or still has to report.
    Inventory(oneshot::Sender<Vec<pb::HeldAttempt>>),
}

pub(crate) struct Supervisor<R> {
    shared: Arc<Shared<R>>,
    attempts: BTreeMap<AttemptId, Handle>,
    running: JoinSet<AttemptId>,
    prefetches: JoinSet<()>,
    shutdown: CancellationToken,
}

struct Handle {
    image: String,
    release: u64,
    started: Arc<OnceLock<Timestamp>>,
    stop: watch::Sender<Option<StopOrder>>,
    acknowledged: watch::Sender<u64>,
}

impl<R: Runtime> Supervisor<R> {
    pub(crate) fn new(shared: Arc<Shared<R>>, shutdown: CancellationToken) -> Self {
        Self {
            shared,
            attempts: BTreeMap::new(),
            running: JoinSet::new(),
            prefetches: JoinSet::new(),
            shutdown,
        }
    }

    /// Takes up what an earlier life of the agent left. Returns the warm containers among it.
    pub(crate) fn take_up(&mut self) -> BTreeSet<String> {
        let mut warm = BTreeSet::new();
        let dir = self.shared.config.data_dir.join(ATTEMPTS);
        journal::clear(&dir);
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let Some(id) = name
                .to_str()
                .and_then(|name| name.parse::<AttemptId>().ok())
            else {
                continue;
            };
            match journal::read(&entry.path()) {
                Ok(history) => {
                    let intent = history.intent.as_ref();
                    warm.extend(intent.and_then(|intent| intent.warm.clone()));
                    self.take_up_one(id, history, &entry.path());
                }
                Err(journal::BadJournal::NoOffer) => {
                    // Nobody was told of it.
                    let _ = std::fs::remove_dir_all(entry.path());
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(attempt = %id, error, "journal can't be used");
                    set_aside(id, &entry.path());
                }
            }
        }
        warm
    }

    fn take_up_one(&mut self, id: AttemptId, history: History, dir: &Path) {
        match Task::read(&history.offer) {
            Ok(task) => {
                if !history.adopted {
                    self.shared.logs.expect(id);
                }
                self.spawn(task, Origin::Found(Box::new(history)));
            }
            Err(error) => {
                tracing::error!(attempt = %id, %error, "journaled offer can't be used");
                set_aside(id, dir);
            }
        }
    }

    /// Serves until `shutdown`, then lets go of the attempts without touching their containers.
    pub(crate) async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                message = messages.recv() => match message {
                    Some(message) => self.on_message(message),
                    None => break,
                },
                Some(ended) = self.running.join_next() => self.on_left(ended),
                Some(_) = self.prefetches.join_next() => {}
            }
        }
        self.shutdown.cancel();
        while self.running.join_next().await.is_some() {}
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Inventory(reply) => {
                // The session may be gone again.
                let _ = reply.send(self.attempts.iter().map(held).collect());
            }
            Message::Orders {
                cluster,
                term,
                orders,
            } => {
                for order in orders {
                    match order.kind {
                        Some(Kind::Offer(offer)) => self.on_offer(offer, &cluster, term),
                        Some(Kind::Stop(stop)) => self.on_stop(&stop),
                        Some(Kind::Ack(ack)) => self.on_ack(&ack),
                        Some(Kind::Prefetch(prefetch)) => self.on_prefetch(&prefetch),
                        Some(Kind::Adopt(offer)) => self.on_adopt(offer, &cluster, term),
                        Some(Kind::Discard(discard)) => self.on_discard(&discard, term),
                        Some(Kind::Keep(keep)) => self.on_keep(keep, term),
                        None => tracing::warn!("order of an unknown kind"),
                    }
                }
            }
        }
    }

    fn on_left(&mut self, left: Result<AttemptId, tokio::task::JoinError>) {
        match left {
            Ok(id) => {
                self.attempts.remove(&id);
            }
            // Its container and journal are as they were; the next start of the agent takes it up.
            Err(error) => tracing::error!(%error, "attempt's task failed"),
        }
    }

    fn on_offer(&mut self, offer: pb::Offer, cluster: &str, term: u64) {
        let Some(id) = offer.attempt.as_ref().and_then(wire::attempt_id) else {
            tracing::error!("offer without an attempt's id");
            return;
        };
        // What was refused once stays refused, for the coordinator may hear of the refusal only now.
        if self.shared.outbox.repeat(id) || self.attempts.contains_key(&id) {
            return;
        }
        if self.shared.orphans.is_undecided(id) {
            return;
        }
        match self.check(&offer) {
            Ok(task) => self.spawn(
                task,
                Origin::Offered {
                    offer: Box::new(offer),
                    cluster: cluster.to_owned(),
                    term,
                },
            ),
            Err(refusal) => self.refuse(id, &refusal),
        }
    }

    /// It runs already, so neither the policy nor a full disk has a say.
    fn on_adopt(&mut self, offer: pb::Offer, cluster: &str, term: u64) {
        let task = match Task::read(&offer) {
            Ok(task) => task,
            Err(error) => return tracing::error!(%error, "offer to adopt can't be used"),
        };
        if self.attempts.contains_key(&task.id) {
            return;
        }
        let origin = Origin::Adopted {
            offer: Box::new(offer),
            cluster: cluster.to_owned(),
            term,
        };
        self.spawn(task, origin);
    }

    fn on_discard(&self, discard: &pb::Discard, term: u64) {
        let Some(id) = discard.attempt.as_ref().and_then(wire::attempt_id) else {
            return;
        };
        if !self.attempts.contains_key(&id) {
            self.shared.orphans.discard(id, term);
        }
    }

    fn check(&self, offer: &pb::Offer) -> Result<Task, Refusal> {
        let task = Task::check(offer, &self.shared.config.policy)?;
        let (wanted, offered) = (task.gpus, self.shared.config.gpus);
        if wanted > offered {
            return Err(Refusal::Gpus { wanted, offered });
        }
        if self.shared.probe.degraded() {
            return Err(Refusal::Degraded);
        }
        self.shared.disks.check()?;
        Ok(task)
    }

    fn refuse(&self, id: AttemptId, refusal: &Refusal) {
        tracing::warn!(attempt = %id, reason = refusal.word(), "offer refused");
        let refused = pb::Refused {
            reason: refusal.word().to_owned(),
            message: refusal.to_string(),
        };
        let news = pb::report::News::Refused(refused);
        self.shared
            .outbox
            .put(id, wire::report(id, seq::ANSWER, news));
    }

    /// As [`Contacts::since`](crate::lease::Contacts::since).
    fn counts_from(&self, task: &Task, origin: &Origin) -> Option<u64> {
        let contact = &self.shared.contact;
        match (origin, task.stop_after) {
            (Origin::Found(history), Some(limit)) => {
                let heard = history.heard.as_ref();
                let heard = heard.filter(|heard| heard.boot_id == self.shared.boot_id);
                contact.since(heard.map(|heard| heard.at), limit)
            }
            (Origin::Found(_) | Origin::Offered { .. } | Origin::Adopted { .. }, _) => {
                Some(contact.last())
            }
        }
    }

    fn spawn(&mut self, task: Task, origin: Origin) {
        let id = task.id;
        let (stop, stop_receiver) = watch::channel(None);
        let (acknowledged, acknowledged_receiver) = watch::channel(0);
        let started = Arc::new(OnceLock::new());
        let control = Control {
            started: Arc::clone(&started),
            stop: stop_receiver,
            acknowledged: acknowledged_receiver,
            contact: self.counts_from(&task, &origin),
            starting: Starting::new(),
        };
        let handle = Handle {
            image: task.image.to_string(),
            release: task.release,
            started,
            stop,
            acknowledged,
        };
        self.attempts.insert(id, handle);
        let life = attempt::run(
            Arc::clone(&self.shared),
            task,
            origin,
            control,
            self.shutdown.clone(),
        );
        self.running.spawn(async move {
            life.await;
            id
        });
    }

    fn on_stop(&self, stop: &pb::Stop) {
        let Some(id) = stop.attempt.as_ref().and_then(wire::attempt_id) else {
            return;
        };
        let reason = match stop.reason() {
            pb::StopReason::Unspecified | pb::StopReason::Canceled => KillReason::Canceled,
            pb::StopReason::Preempted => KillReason::Preempted,
            pb::StopReason::Superseded => KillReason::Superseded,
            pb::StopReason::Timeout => KillReason::RunTimeout,
        };
        let now = stop.now;
        match self.attempts.get(&id) {
            None if self.shared.orphans.is_undecided(id) => {}
            None => self.refuse(id, &Refusal::NeverSeen),
            Some(handle) => {
                handle.stop.send_if_modified(|order| match order {
                    None => {
                        *order = Some(StopOrder { reason, now });
                        true
                    }
                    // The first reason stays; haste may come later.
                    Some(first) if now && !first.now => {
                        first.now = true;
                        true
                    }
                    Some(_) => false,
                });
            }
        }
    }

    fn on_ack(&self, ack: &pb::Ack) {
        let Some(id) = ack.attempt.as_ref().and_then(wire::attempt_id) else {
            return;
        };
        self.shared.outbox.acknowledge(id, ack.seq);
        if let Some(handle) = self.attempts.get(&id) {
            handle.acknowledged.send_if_modified(|seq| {
                let grows = ack.seq > *seq;
                *seq = ack.seq.max(*seq);
                grows
            });
        }
    }

    fn on_keep(&self, keep: pb::Keep, term: u64) {
        let pb::Keep {
            channel,
            images,
            warm,
        } = keep;
        let policy = &self.shared.config.policy;
        let allowed = |warm: &pb::Warm| {
            let image: Result<Image, _> = warm.image.parse();
            image.is_ok_and(|image| policy.check_image(&image).is_ok())
        };
        // The engine's own init process can't be told anything.
        let warm = warm.filter(|warm| self.shared.init.is_some() && allowed(warm));
        self.shared.warm.want(channel.clone(), warm.as_ref(), term);
        self.shared.images.keep(channel, images);
    }

    fn on_prefetch(&mut self, prefetch: &pb::Prefetch) {
        let Ok(image) = prefetch.image.parse::<Image>() else {
            tracing::warn!("prefetch of what is no image");
            return;
        };
        if let Err(refusal) = self.shared.config.policy.check_image(&image) {
            tracing::warn!(%refusal, "prefetch refused");
            self.shared.images.refuse_fetch(&image, refusal.to_string());
            return;
        }
        let (shared, shutdown) = (Arc::clone(&self.shared), self.shutdown.clone());
        let jitter = if prefetch.at_once {
            0
        } else {
            uuid::Uuid::now_v7().as_u64_pair().1 % PREFETCH_JITTER_MS
        };
        self.prefetches.spawn(async move {
            let work = async {
                tokio::time::sleep(Duration::from_millis(jitter)).await;
                match shared.images.prefetch(&image).await {
                    Ok(_) => shared.watch.note_images_changed(),
                    Err(error) => tracing::warn!(%error, "prefetch failed"),
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = work => {}
            }
        });
    }
}

fn set_aside(id: AttemptId, dir: &Path) {
    if !journal::exists(dir) {
        return; // it was put aside before
    }
    if let Err(error) = journal::set_aside(dir) {
        tracing::error!(attempt = %id, %error, "damaged journal can't be put aside");
    }
}

/// For a coordinator whose store does not know the attempt.
fn held((id, handle): (&AttemptId, &Handle)) -> pb::HeldAttempt {
    pb::HeldAttempt {
        attempt: Some(wire::from_attempt_id(*id)),
        image: handle.image.clone(),
        release: handle.release,
        started: handle.started.get().copied().map(wire::timestamp),
    }
}

#[cfg(test)]
mod tests;
