//! The names of a simulated disk: directories as the process sees them, as the medium holds them,
//! and the changes between the two.
//!
//! Each change of a name (a link, an unlink, a rename) is atomic. A sync of a directory makes the
//! changes of that directory durable, with whatever earlier changes they build on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::draw::Draw;
use super::file::{SimFileState, Survival};

/// The number of a file or directory.
pub(super) type Inode = u64;

/// The directory that always exists.
pub(super) const ROOT: Inode = 0;

/// Names and what they lead to.
pub(super) type Names = BTreeMap<String, Inode>;

/// The bytes of files by path.
pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A directory's names.
#[derive(Clone, Debug, Default)]
struct Directory {
    visible: Names,
    durable: Names,
}

#[derive(Clone, Debug)]
enum Node {
    Directory(Directory),
    File(SimFileState),
}

/// A change of names that is not durable.
#[derive(Clone, Debug)]
enum Change {
    Link { dir: Inode, name: String, inode: Inode },
    Unlink { dir: Inode, name: String },
    Rename { from: (Inode, String), to: (Inode, String), inode: Inode },
}

impl Change {
    fn dirs(&self) -> [Inode; 2] {
        match self {
            Self::Link { dir, .. } | Self::Unlink { dir, .. } => [*dir, *dir],
            Self::Rename { from, to, .. } => [from.0, to.0],
        }
    }

    fn touches(&self, dirs: &BTreeSet<Inode>) -> bool {
        self.dirs().iter().any(|dir| dirs.contains(dir))
    }
}

#[derive(Clone, Debug)]
struct Pending {
    sequence: u64,
    change: Change,
}

/// What a power loss took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    /// Bytes that read differently afterwards, those of files that lost their name included.
    pub(super) bytes: u64,
    /// Names made, removed or changed in vain.
    pub(super) name_changes: u64,
}

/// All files and directories.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<Inode, Node>,
    /// How many open handles each file has; absent is none.
    open_handles: BTreeMap<Inode, usize>,
    pending: Vec<Pending>,
    next_inode: Inode,
}

/// Where a name is: its directory and its last part.
type Place = (Inode, String);

impl Tree {
    pub(super) fn new() -> Self {
        Self {
            nodes: BTreeMap::from([(ROOT, Node::Directory(Directory::default()))]),
            open_handles: BTreeMap::new(),
            pending: Vec::new(),
            next_inode: ROOT + 1,
        }
    }

    /// The number of what is at a path.
    pub(super) fn find(&self, path: &Path) -> io::Result<Inode> {
        let mut inode = ROOT;
        for name in parts(path)? {
            let found = self.directory(inode)?.visible.get(&name);
            inode = *found.ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(inode)
    }

    /// The directory and last part of a path whose directory exists.
    pub(super) fn place(&self, path: &Path) -> io::Result<Place> {
        let mut names = parts(path)?;
        let name = names.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let mut dir = ROOT;
        for name in names {
            let found = self.directory(dir)?.visible.get(&name);
            dir = *found.ok_or(io::ErrorKind::NotFound)?;
        }
        self.directory(dir)?;
        Ok((dir, name))
    }

    pub(super) fn get(&self, place: &Place) -> Option<Inode> {
        self.directory(place.0).ok()?.visible.get(&place.1).copied()
    }

    pub(super) fn file(&self, inode: Inode) -> io::Result<&SimFileState> {
        match self.nodes.get(&inode) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn file_mut(&mut self, inode: Inode) -> io::Result<&mut SimFileState> {
        match self.nodes.get_mut(&inode) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn is_dir(&self, inode: Inode) -> bool {
        matches!(self.nodes.get(&inode), Some(Node::Directory(_)))
    }

    /// The names in a directory.
    pub(super) fn names(&self, dir: Inode) -> io::Result<&Names> {
        Ok(&self.directory(dir)?.visible)
    }

    pub(super) fn create_file(&mut self, sequence: u64, place: Place) -> Inode {
        self.create(sequence, place, Node::File(SimFileState::default()))
    }

    pub(super) fn create_dir(&mut self, sequence: u64, place: Place) {
        self.create(sequence, place, Node::Directory(Directory::default()));
    }

    fn create(&mut self, sequence: u64, (dir, name): Place, node: Node) -> Inode {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.nodes.insert(inode, node);
        self.change(sequence, Change::Link { dir, name, inode });
        inode
    }

    pub(super) fn unlink(&mut self, sequence: u64, (dir, name): Place) {
        self.change(sequence, Change::Unlink { dir, name });
    }

    /// Renames by the rules of POSIX.
    pub(super) fn rename(&mut self, sequence: u64, from: Place, to: Place) -> io::Result<()> {
        let inode = self.get(&from).ok_or(io::ErrorKind::NotFound)?;
        let replaced = self.get(&to);
        if replaced == Some(inode) {
            return Ok(());
        }
        if self.is_dir(inode) && self.is_below(to.0, inode) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if replaced.is_some_and(|replaced| self.is_below(from.0, replaced)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        match replaced.map(|replaced| (self.is_dir(inode), self.is_dir(replaced), replaced)) {
            Some((true, true, replaced)) if !self.names(replaced)?.is_empty() => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            Some((true, false, _)) => return Err(io::ErrorKind::NotADirectory.into()),
            Some((false, true, _)) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(_) | None => {}
        }
        self.change(sequence, Change::Rename { from, to, inode });
        Ok(())
    }

    /// Whether a directory is the other or lies below it.
    fn is_below(&self, inner: Inode, outer: Inode) -> bool {
        inner == outer
            || self.directory(outer).is_ok_and(|outer| {
                outer
                    .visible
                    .values()
                    .any(|child| self.is_dir(*child) && self.is_below(inner, *child))
            })
    }

    fn change(&mut self, sequence: u64, change: Change) {
        apply(&mut self.nodes, &change, |directory| &mut directory.visible);
        self.pending.push(Pending { sequence, change });
    }

    /// Makes the names of a directory durable.
    pub(super) fn sync_dir(&mut self, dir: Inode) -> io::Result<()> {
        self.directory(dir)?;
        self.make_durable(dir, self.pending.len());
        self.sweep();
        Ok(())
    }

    /// Makes those of the first `count` pending changes durable that touch a directory, and the
    /// earlier ones that they build on.
    fn make_durable(&mut self, dir: Inode, count: usize) {
        let mut dirs = BTreeSet::from([dir]);
        let mut chosen = BTreeSet::new();
        for (at, pending) in self.pending.iter().enumerate().take(count).rev() {
            if pending.change.touches(&dirs) {
                dirs.extend(pending.change.dirs());
                chosen.insert(at);
            }
        }
        let mut at = 0;
        let nodes = &mut self.nodes;
        self.pending.retain(|pending| {
            let keep = !chosen.contains(&at);
            at += 1;
            if !keep {
                apply(nodes, &pending.change, |directory| &mut directory.durable);
            }
            keep
        });
    }

    /// The places of all changes that are not durable, of names and of files, in the order of the
    /// disk.
    pub(super) fn pending_sequences(&self) -> Vec<u64> {
        let mut sequences: Vec<u64> = self.pending.iter().map(|pending| pending.sequence).collect();
        for node in self.nodes.values() {
            if let Node::File(file) = node {
                sequences.extend(file.pending_sequences());
            }
        }
        sequences.sort_unstable();
        sequences
    }

    /// Power loss: keeps what `survival` says and shows what the medium then holds.
    pub(super) fn crash(&mut self, survival: Survival, draw: &mut Draw) -> Losses {
        let named = self.reachable(vec![ROOT], |directory| vec![&directory.visible]);
        let mut losses = Losses { name_changes: self.crash_names(survival, draw), bytes: 0 };
        self.pending.clear();
        self.open_handles.clear();
        let kept = self.reachable(vec![ROOT], |directory| vec![&directory.durable]);
        for (inode, node) in &mut self.nodes {
            match node {
                Node::Directory(directory) => directory.visible = directory.durable.clone(),
                Node::File(file) => {
                    if named.contains(inode) && !kept.contains(inode) {
                        losses.bytes += file.written_bytes();
                    }
                    let changed = file.crash(survival, draw);
                    if kept.contains(inode) {
                        losses.bytes += changed;
                    }
                }
            }
        }
        self.sweep();
        losses
    }

    /// Keeps what survives of the changes of names; returns how many do not.
    fn crash_names(&mut self, survival: Survival, draw: &mut Draw) -> u64 {
        let before = match survival {
            Survival::Nothing => 0,
            Survival::Everything => u64::MAX,
            Survival::Before(first_lost) => first_lost,
            Survival::Anything => {
                self.keep_any_names(draw);
                return self.pending.len() as u64;
            }
        };
        let mut lost = 0;
        for pending in &self.pending {
            if pending.sequence < before {
                apply(&mut self.nodes, &pending.change, |directory| &mut directory.durable);
            } else {
                lost += 1;
            }
        }
        lost
    }

    fn keep_any_names(&mut self, draw: &mut Draw) {
        let dirs: BTreeSet<Inode> = self.pending.iter().flat_map(|p| p.change.dirs()).collect();
        for dir in dirs {
            let own: Vec<usize> = (0..self.pending.len())
                .filter(|at| self.pending[*at].change.dirs().contains(&dir))
                .collect();
            let kept = draw.up_to(own.len());
            if kept > 0 {
                self.make_durable(dir, own[kept - 1] + 1);
            }
        }
    }

    /// The durable bytes of all files below a directory, by path.
    pub(super) fn durable_files(&self, dir: Inode, path: &Path, files: &mut Files) {
        let Ok(directory) = self.directory(dir) else { return };
        for (name, inode) in &directory.durable {
            let path = path.join(name);
            match self.file(*inode) {
                Ok(file) => drop(files.insert(path, file.durable().to_vec())),
                Err(_) => self.durable_files(*inode, &path, files),
            }
        }
    }

    /// Counts an open handle of a file.
    pub(super) fn opened(&mut self, inode: Inode) {
        *self.open_handles.entry(inode).or_default() += 1;
    }

    /// Counts a closed handle of a file.
    pub(super) fn closed(&mut self, inode: Inode) {
        if let Some(count) = self.open_handles.get_mut(&inode) {
            *count -= 1;
            if *count == 0 {
                self.open_handles.remove(&inode);
            }
        }
    }

    /// Forgets all open handles: their process is dead.
    pub(super) fn close_all(&mut self) {
        self.open_handles.clear();
    }

    /// Bytes of the blocks of all files that have a name or an open handle.
    pub(super) fn allocated_bytes(&self) -> u64 {
        let mut start: Vec<Inode> = self.open_handles.keys().copied().collect();
        start.push(ROOT);
        let inodes = self.reachable(start, |directory| vec![&directory.visible]);
        let files = inodes.iter().filter_map(|inode| self.file(*inode).ok());
        files.map(|file| file.visible().allocated_bytes()).sum()
    }

    /// Drops what can be reached neither by name, before or after a crash, nor by handle.
    fn sweep(&mut self) {
        let mut start: Vec<Inode> = self.open_handles.keys().copied().collect();
        start.push(ROOT);
        for pending in &self.pending {
            if let Change::Link { inode, .. } | Change::Rename { inode, .. } = &pending.change {
                start.push(*inode);
            }
        }
        let inodes =
            self.reachable(start, |directory| vec![&directory.visible, &directory.durable]);
        self.nodes.retain(|inode, _| inodes.contains(inode));
        self.pending.retain(|pending| pending.change.touches(&inodes));
    }

    fn reachable(
        &self,
        start: Vec<Inode>,
        names: fn(&Directory) -> Vec<&Names>,
    ) -> BTreeSet<Inode> {
        let mut found = BTreeSet::new();
        let mut next = start;
        while let Some(inode) = next.pop() {
            if found.insert(inode)
                && let Some(Node::Directory(directory)) = self.nodes.get(&inode)
            {
                next.extend(names(directory).into_iter().flat_map(BTreeMap::values));
            }
        }
        found
    }

    fn directory(&self, inode: Inode) -> io::Result<&Directory> {
        match self.nodes.get(&inode) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn apply(
    nodes: &mut BTreeMap<Inode, Node>,
    change: &Change,
    names: fn(&mut Directory) -> &mut Names,
) {
    let mut with = |dir: &Inode, edit: &dyn Fn(&mut Names)| {
        if let Some(Node::Directory(directory)) = nodes.get_mut(dir) {
            edit(names(directory));
        }
    };
    match change {
        Change::Link { dir, name, inode } => with(dir, &|names| {
            names.insert(name.clone(), *inode);
        }),
        Change::Unlink { dir, name } => with(dir, &|names| {
            names.remove(name);
        }),
        Change::Rename { from, to, inode } => {
            with(&from.0, &|names| {
                names.remove(&from.1);
            });
            with(&to.0, &|names| {
                names.insert(to.1.clone(), *inode);
            });
        }
    }
}

/// The names along a path from the root.
fn parts(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
                names.push(name.to_owned());
            }
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(names)
}
