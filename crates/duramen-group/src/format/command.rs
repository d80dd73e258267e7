//! Commands as the log holds them: version · time · kind · what it is about.

use std::collections::BTreeMap;

use duramen_types::{MetadataIndex, Offset, Term};

use super::wire::{Reader, Writer};
use super::{
    begin, open, read_partitions, read_resolution, read_subscription, write_partitions,
    write_resolution, write_subscription,
};
use crate::command::{Action, Change, Command, Committer, ExpiryCause, Join, OffsetCommit};
use crate::epoch::{GroupEpoch, MemberEpoch};
use crate::error::DecodeError;
use crate::name::{GroupName, MemberId};

const FORGET_TOPICS: u8 = 0;
const JOIN: u8 = 1;
const SUBSCRIBE: u8 = 2;
const LEAVE: u8 = 3;
const EXPIRE: u8 = 4;
const ACKNOWLEDGE: u8 = 5;
const RESOLVE: u8 = 6;
const ASSIGN: u8 = 7;
const COMMIT: u8 = 8;
const RESET: u8 = 9;
const DELETE_OFFSETS: u8 = 10;
const DELETE: u8 = 11;
const RETIRE: u8 = 12;

impl Command {
    /// The command as the log holds it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = begin();
        to.time(self.at);
        match &self.change {
            Change::ForgetTopics { index, topics } => {
                to.byte(FORGET_TOPICS);
                to.number(index.get());
                to.len(topics.len());
                topics.iter().for_each(|topic| to.topic(*topic));
            }
            Change::Group { group, action } => write_action(&mut to, group, action),
        }
        to.finish()
    }

    /// Reads a command.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are not a command of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = open(bytes)?;
        let at = from.time()?;
        let change = match from.byte()? {
            FORGET_TOPICS => {
                let index = MetadataIndex::new(from.number()?);
                let count = from.count(16)?;
                let topics = (0..count).map(|_| from.topic()).collect::<Result<_, _>>()?;
                Change::ForgetTopics { index, topics }
            }
            kind => {
                let group = from.group()?;
                Change::Group { group, action: read_action(&mut from, kind)? }
            }
        };
        from.finish()?;
        Ok(Self { at, change })
    }
}

fn write_action(to: &mut Writer, group: &GroupName, action: &Action) {
    let mut head = |kind| {
        to.byte(kind);
        to.text(group.as_str());
    };
    match action {
        Action::Join(join) => {
            head(JOIN);
            write_join(to, join);
        }
        Action::Subscribe { member, epoch, subscription } => {
            head(SUBSCRIBE);
            write_speaker(to, member, *epoch);
            write_subscription(to, subscription);
        }
        Action::Leave { member, epoch, returns } => {
            head(LEAVE);
            write_speaker(to, member, *epoch);
            to.flag(*returns);
        }
        Action::Expire { member, epoch, cause } => {
            head(EXPIRE);
            write_speaker(to, member, *epoch);
            to.flag(*cause == ExpiryCause::Revocation);
        }
        Action::Acknowledge { member, epoch } => {
            head(ACKNOWLEDGE);
            write_speaker(to, member, *epoch);
        }
        Action::Resolve(resolution) => {
            head(RESOLVE);
            write_resolution(to, resolution);
        }
        Action::Assign { epoch, target } => {
            head(ASSIGN);
            to.number(epoch.get());
            to.len(target.len());
            for (member, partitions) in target {
                to.text(member.as_str());
                write_partitions(to, partitions);
            }
        }
        Action::Commit { committer, offsets } => {
            head(COMMIT);
            match committer {
                Committer::Member { member, epoch } => {
                    to.flag(true);
                    write_speaker(to, member, *epoch);
                }
                Committer::Standalone { fence } => {
                    to.flag(false);
                    to.option(*fence, Writer::epoch);
                }
            }
            write_offsets(to, offsets);
        }
        Action::Reset { fence, offsets } => {
            head(RESET);
            to.option(*fence, Writer::epoch);
            write_offsets(to, offsets);
        }
        Action::DeleteOffsets { partitions } => {
            head(DELETE_OFFSETS);
            write_partitions(to, partitions);
        }
        Action::Delete => head(DELETE),
        Action::Retire { idle_ms } => {
            head(RETIRE);
            to.number(*idle_ms);
        }
    }
}

fn read_action(from: &mut Reader<'_>, kind: u8) -> Result<Action, DecodeError> {
    Ok(match kind {
        JOIN => Action::Join(read_join(from)?),
        SUBSCRIBE => {
            let (member, epoch) = read_speaker(from)?;
            Action::Subscribe { member, epoch, subscription: read_subscription(from)? }
        }
        LEAVE => {
            let (member, epoch) = read_speaker(from)?;
            Action::Leave { member, epoch, returns: from.flag()? }
        }
        EXPIRE => {
            let (member, epoch) = read_speaker(from)?;
            let gave_nothing = from.flag()?;
            let cause = if gave_nothing { ExpiryCause::Revocation } else { ExpiryCause::Session };
            Action::Expire { member, epoch, cause }
        }
        ACKNOWLEDGE => {
            let (member, epoch) = read_speaker(from)?;
            Action::Acknowledge { member, epoch }
        }
        RESOLVE => Action::Resolve(read_resolution(from)?),
        ASSIGN => {
            let epoch = GroupEpoch::new(from.number()?);
            let mut target = BTreeMap::new();
            for _ in 0..from.count(3)? {
                if target.insert(from.member()?, read_partitions(from)?).is_some() {
                    return Err(DecodeError::Field { field: "target" });
                }
            }
            Action::Assign { epoch, target }
        }
        COMMIT => {
            let committer = if from.flag()? {
                let (member, epoch) = read_speaker(from)?;
                Committer::Member { member, epoch }
            } else {
                Committer::Standalone { fence: from.option(Reader::epoch)? }
            };
            Action::Commit { committer, offsets: read_offsets(from)? }
        }
        RESET => {
            let fence = from.option(Reader::epoch)?;
            Action::Reset { fence, offsets: read_offsets(from)? }
        }
        DELETE_OFFSETS => Action::DeleteOffsets { partitions: read_partitions(from)? },
        DELETE => Action::Delete,
        RETIRE => Action::Retire { idle_ms: from.number()? },
        found => return Err(DecodeError::Unknown { what: "command", found }),
    })
}

fn write_speaker(to: &mut Writer, member: &MemberId, epoch: MemberEpoch) {
    to.text(member.as_str());
    to.epoch(epoch);
}

fn read_speaker(from: &mut Reader<'_>) -> Result<(MemberId, MemberEpoch), DecodeError> {
    Ok((from.member()?, from.epoch()?))
}

fn write_join(to: &mut Writer, join: &Join) {
    to.text(join.member.as_str());
    to.option(join.instance.as_ref(), |to, instance| to.text(instance.as_str()));
    to.text(&join.client);
    to.text(&join.rack);
    write_subscription(to, &join.subscription);
    to.number(u64::from(join.session_ms));
    to.number(u64::from(join.revocation_ms));
}

fn read_join(from: &mut Reader<'_>) -> Result<Join, DecodeError> {
    Ok(Join {
        member: from.member()?,
        instance: from.option(Reader::instance)?,
        client: from.text()?.into(),
        rack: from.text()?.into(),
        subscription: read_subscription(from)?,
        session_ms: from.small()?,
        revocation_ms: from.small()?,
    })
}

fn write_offsets(to: &mut Writer, offsets: &[OffsetCommit]) {
    let partitions: Vec<_> = offsets.iter().map(|commit| commit.partition).collect();
    write_partitions(to, &partitions);
    for commit in offsets {
        to.number(commit.offset.get());
        to.option(commit.leader_epoch, |to, term| to.number(term.get()));
        to.text(&commit.metadata);
    }
}

fn read_offsets(from: &mut Reader<'_>) -> Result<Vec<OffsetCommit>, DecodeError> {
    let partitions = read_partitions(from)?;
    let read = |partition| {
        Ok(OffsetCommit {
            partition,
            offset: Offset::new(from.number()?),
            leader_epoch: from.option(Reader::number)?.map(Term::new),
            metadata: from.text()?.into(),
        })
    };
    partitions.into_iter().map(read).collect()
}
