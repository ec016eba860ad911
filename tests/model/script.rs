//! Steps of a random history: numbers that are made into requests. Shared with the fuzz target `tree`.

use std::collections::BTreeSet;

use ipcfs::op::{
    CopyRange, Error, Fh, FileTime, LockCall, LockKind, LockOwner, NodeId, Op, OpenFlags, PollEvents,
    PollHandle, Poller, RenameHow, Reply, SetAttr, SetTime, Whence,
};

use super::world::{File, Kind, Listing, Part, ROOT, TARGET, World};

/// Numbers that choose a request and its arguments.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub what: u8,
    pub who: u8,
    pub a: u8,
    pub b: u8,
    pub c: u16,
}

const NAMES: [&[u8]; 5] = [b"a", b"b", b"c", b"d", b"e"];
const LONG: [u8; 256] = [b'x'; 256];
const BAD: [&[u8]; 5] = [b"", b".", b"..", b"x/y", &LONG];

/// Does what a step says, as a kernel that knows what it does, and checks the answer.
pub fn perform(world: &mut World, step: Step) {
    let Step { what, who, a, b, c } = step;
    let who = who % 4;
    world.now += u64::from(c % 8) * 10_000_000;
    match what {
        0..=19 => look_up(world, who, a, b),
        20..=49 => create(world, who, step),
        50..=63 => make(world, who, step),
        64..=79 => unlink(world, who, a, b, c.is_multiple_of(3)),
        80..=99 => rename(world, who, step),
        100..=119 => {
            let Some(node) = any_node(world, a, false) else { return };
            world.open(who, node, flags(b));
        }
        120..=144 => read(world, who, step),
        145..=174 => write(world, who, step),
        175..=189 if !world.files.is_empty() => world.release(who, usize::from(a) % world.files.len()),
        190..=199 => {
            let Some((node, _)) = pick(&world.nodes.clone().into_iter().collect::<Vec<_>>(), a) else {
                return;
            };
            world.forget(who, node, u64::from(b % 4));
        }
        200..=209 => match pick(&world.waiting(), a) {
            Some(unique) => world.interrupt(who, unique),
            None => world.interrupt(who, u64::from(c)),
        },
        210..=213 => set_attributes(world, who, step),
        214..=219 => attributes(world, who, step),
        220..=231 => list(world, who, step),
        232..=239 => lock(world, who, step),
        240..=245 => configure(world, who, step),
        246..=247 => show(world, who, a),
        248..=249 => poll(world, who, step),
        250..=252 => allocate(world, who, step),
        253 => {
            let Some(file) = pick(&world.files, a) else { return };
            let whence = if b % 2 == 0 { Whence::Data } else { Whence::Hole };
            world.get(who, file.node, Op::Lseek { fh: file.fh, offset: u64::from(c), whence });
        }
        254 => {
            let limit = world.now.saturating_sub(u64::from(b) * 5_000_000);
            world.expire(limit);
        }
        _ => {
            assert!(matches!(world.get(who, NodeId::ROOT, Op::Statfs), Reply::Space(_)));
            let fh = pick(&world.files, a).map_or(Fh(0), |file| file.fh);
            let copy =
                CopyRange { from: fh, from_offset: 0, to: fh, to_offset: 1 << 20, length: 4096, long: true };
            let reply = world.get(who, NodeId::ROOT, Op::CopyFileRange(copy));
            assert!(matches!(reply, Reply::Failed(Error::Invalid | Error::NotSupported)));
        }
    }
}

fn pick<T: Clone>(all: &[T], number: u8) -> Option<T> {
    (!all.is_empty()).then(|| all[usize::from(number) % all.len()].clone())
}

fn name(number: u8) -> &'static [u8] {
    if number >= 250 {
        BAD[(usize::from(number) - 250) & 3]
    } else {
        NAMES[usize::from(number) % NAMES.len()]
    }
}

fn flags(number: u8) -> OpenFlags {
    let access = number % 3;
    OpenFlags {
        read: access != 1,
        write: access != 0,
        append: number & 128 != 0,
        truncate: number & 16 != 0,
        exclusive: number & 32 != 0,
        no_follow: false,
        kill_suid: number & 64 != 0,
    }
}

/// A node the kernel knows: of a folder, or of a file.
fn any_node(world: &mut World, number: u8, folder: bool) -> Option<NodeId> {
    if folder && number.is_multiple_of(2) {
        // Such as are empty at first would hardly ever be met.
        let top = if number.is_multiple_of(4) { "mailboxes" } else { "segments" };
        return world.look_up(0, NodeId::ROOT, top.as_bytes());
    }
    let fits = |kind: Kind| if folder { kind == Kind::Folder } else { kind.is_file() };
    let nodes = world.nodes.iter().filter(|(_, known)| fits(known.kind));
    pick(&nodes.map(|(node, _)| *node).collect::<Vec<_>>(), number / 2)
}

fn look_up(world: &mut World, who: u8, a: u8, b: u8) {
    let Some(folder) = any_node(world, a, true) else { return };
    if [b"." as &[u8], b".."].contains(&name(b)) {
        // As for a file handle.
        if let Reply::Entry(entry) = world.get(who, folder, Op::Lookup { name: name(b) }) {
            world.learn(&entry, Kind::Folder);
        }
    } else if b >= 250 {
        assert!(matches!(world.get(who, folder, Op::Lookup { name: name(b) }), Reply::Failed(_)));
    } else {
        world.look_up(who, folder, name(b));
    }
}

/// What stands in the way of a new name in a folder.
fn check_new(world: &World, folder: NodeId, name: &[u8]) -> Result<Part, Error> {
    let ino = world.nodes[&folder].ino;
    check_name(name)?;
    if world.path(ino).is_none() {
        return Err(Error::NotFound);
    }
    if world.names[&ino].contains_key(name) {
        return Err(Error::Exists);
    }
    match world.parts[&ino] {
        Part::Root => Err(Error::KindRefused),
        part => Ok(part),
    }
}

fn check_name(name: &[u8]) -> Result<(), Error> {
    match name {
        _ if name.len() > 255 => Err(Error::NameTooLong),
        b"" | b"." | b".." => Err(Error::BadName),
        _ if name.contains(&b'/') => Err(Error::BadName),
        _ => Ok(()),
    }
}

fn kind_of(part: Part) -> Kind {
    if part == Part::Segments { Kind::Segment } else { Kind::Mailbox }
}

fn create(world: &mut World, who: u8, Step { a, b, c, .. }: Step) {
    let Some(folder) = any_node(world, a, true) else { return };
    let (name, flags) = (name(b), flags(c as u8));
    let expected = check_new(world, folder, name);
    let reply = world.get(who, folder, Op::Create { name, mode: 0o644, flags });
    match (reply, expected) {
        (Reply::Created(entry, opened), Ok(part)) => {
            world.learn(&entry, kind_of(part));
            world.name(world.nodes[&folder].ino, name, entry.attr.ino, kind_of(part));
            world.opened(entry.node, &opened, flags, false);
        }
        // Looked up again, or opened at once where the owner asks.
        (Reply::Failed(Error::Stale), Err(Error::Exists)) if !flags.exclusive => {
            let node = world.look_up(who, folder, name).expect("it exists");
            if world.nodes[&node].kind.is_file() {
                world.open_again(who, node, flags);
            } else {
                world.given_up.insert(who);
            }
        }
        (Reply::Created(entry, opened), Err(Error::Exists)) if !flags.exclusive => {
            let (ino, kind) = world.names[&world.nodes[&folder].ino][name];
            assert_eq!(entry.attr.ino, ino);
            assert_eq!(entry.attr.uid, u32::from(who), "opened for its owner only");
            world.learn(&entry, kind);
            world.opened(entry.node, &opened, flags, false);
        }
        (reply, expected) => assert_eq!(reply, Reply::Failed(expected.unwrap_err()), "create {name:?}"),
    }
}

fn make(world: &mut World, who: u8, Step { a, b, c, .. }: Step) {
    let Some(parent) = any_node(world, a, true) else { return };
    let name = name(b);
    let expected = check_new(world, parent, name);
    let op = match c % 4 {
        0 | 2 => Op::Mkdir { name, mode: 0o755 },
        1 => Op::Mknod { name, mode: 0o100_644 },
        _ => Op::Symlink { name, target: TARGET },
    };
    match (world.get(who, parent, op), expected) {
        (Reply::Entry(entry), Ok(part)) => {
            let kind = [Kind::Folder, kind_of(part), Kind::Folder, Kind::Symlink][usize::from(c % 4)];
            world.learn(&entry, kind);
            world.name(world.nodes[&parent].ino, name, entry.attr.ino, kind);
        }
        (reply, expected) => assert_eq!(reply, Reply::Failed(expected.unwrap_err()), "make {name:?}"),
    }
}

/// What stands in the way of taking a name away.
fn check_removable(world: &World, child: (ipcfs::op::Ino, Kind), as_folder: bool) -> Result<(), Error> {
    match child.1 {
        Kind::Folder if !as_folder => Err(Error::IsFolder),
        Kind::Folder if !world.names[&child.0].is_empty() => Err(Error::NotEmpty),
        Kind::Mailbox | Kind::Segment | Kind::Symlink if as_folder => Err(Error::NotFolder),
        _ => Ok(()),
    }
}

fn unlink(world: &mut World, who: u8, a: u8, b: u8, as_folder: bool) {
    let Some(parent) = any_node(world, a, true) else { return };
    let (ino, name) = (world.nodes[&parent].ino, name(b));
    let expected = check_name(name).and_then(|()| {
        if world.parts[&ino] == Part::Root {
            return Err(Error::NotPermitted);
        }
        let child = world.names[&ino].get(name).copied().ok_or(Error::NotFound)?;
        check_removable(world, child, as_folder)
    });
    let op = if as_folder { Op::Rmdir { name } } else { Op::Unlink { name } };
    let reply = world.get(who, parent, op);
    match expected {
        Ok(()) => {
            assert_eq!(reply, Reply::Done);
            world.unname(ino, name).expect("it was there");
        }
        Err(error) => assert_eq!(reply, Reply::Failed(error), "unlink {name:?}"),
    }
}

/// What a rename has to do: nothing, or move, or swap.
fn check_rename(
    world: &World,
    from: (ipcfs::op::Ino, &[u8]),
    to: (ipcfs::op::Ino, &[u8]),
    how: RenameHow,
) -> Result<bool, Error> {
    let movable = |from: (ipcfs::op::Ino, &[u8]), to: ipcfs::op::Ino| {
        if world.parts[&from.0] == Part::Root {
            return Err(Error::NotPermitted);
        }
        let child = world.names[&from.0].get(from.1).copied().ok_or(Error::NotFound)?;
        if world.parts[&from.0] != world.parts[&to] {
            return Err(Error::OtherKind);
        }
        let Some(path) = world.path(to) else { return Err(Error::NotFound) };
        // A folder cannot go below itself.
        let mut above = ROOT;
        for name in path {
            above = world.names[&above][&name].0;
            if above == child.0 {
                return Err(Error::Invalid);
            }
        }
        Ok(child)
    };
    let child = movable(from, to.0)?;
    if how == RenameHow::Exchange {
        return Ok(movable(to, from.0)?.0 != child.0);
    }
    check_name(to.1)?;
    if let Some(target) = world.names[&to.0].get(to.1).copied() {
        if how == RenameHow::NoReplace {
            return Err(Error::Exists);
        }
        if target.0 == child.0 {
            return Ok(false);
        }
        check_removable(world, target, child.1 == Kind::Folder)?;
    }
    Ok(true)
}

fn rename(world: &mut World, who: u8, Step { a, b, c, .. }: Step) {
    let (Some(parent), Some(new_parent)) = (any_node(world, a, true), any_node(world, b, true)) else {
        return;
    };
    let (old, new) = (name((c >> 4) as u8), name((c >> 8) as u8));
    let how = [RenameHow::Replace, RenameHow::Replace, RenameHow::NoReplace, RenameHow::Exchange]
        [usize::from(c) % 4];
    let (from, to) = (world.nodes[&parent].ino, world.nodes[&new_parent].ino);
    let expected = check_rename(world, (from, old), (to, new), how);
    let reply = world.get(who, parent, Op::Rename { name: old, new_parent, new_name: new, how });
    match expected {
        Ok(moves) => {
            assert_eq!(reply, Reply::Done);
            if moves {
                let replaced = world.unname(to, new);
                let (ino, kind) = world.unname(from, old).expect("it was there");
                world.name(to, new, ino, kind);
                if let Some((ino, kind)) = replaced.filter(|_| how == RenameHow::Exchange) {
                    world.name(from, old, ino, kind);
                }
            }
        }
        Err(error) => assert_eq!(reply, Reply::Failed(error), "rename {old:?} to {new:?}, {how:?}"),
    }
}

fn read(world: &mut World, who: u8, Step { a, b, c, .. }: Step) {
    let readable: Vec<File> = world.files.iter().filter(|file| file.flags.read).copied().collect();
    let Some(file) = pick(&readable, a) else { return };
    let offset = match file.kind {
        Kind::Mailbox if file.flags.write => 0,
        Kind::Mailbox => file.position,
        _ => u64::from(c) % 9000,
    };
    world.read(who, file, offset, 1 + u32::from(b % 80), b >= 128);
}

fn write(world: &mut World, who: u8, Step { a, b, c, .. }: Step) {
    let Some(file) = pick(&world.files, a) else { return };
    let data = vec![b; 1 + usize::from(c % 70)];
    let offset = if file.kind == Kind::Segment { u64::from(c) * 2 } else { 0 };
    let (nonblock, append) = (b >= 200, b.is_multiple_of(5));
    let op =
        Op::Write { fh: file.fh, offset, data: &data, nonblock, append, page_cache: false, kill_suid: false };
    let reply = world.ask(who, file.node, op);
    match (file.kind, reply) {
        (_, Some(Reply::Failed(Error::BadDescriptor))) => assert!(!file.flags.write),
        (Kind::Segment, Some(Reply::Written(written))) => {
            assert_eq!(written as usize, data.len());
            let (from, to) = (offset as usize, offset as usize + data.len());
            let bytes = world.bytes.entry(file.ino).or_default();
            bytes.resize(bytes.len().max(to), 0);
            bytes[from..to].copy_from_slice(&data);
        }
        (Kind::Segment, reply) => assert_eq!(reply, Some(Reply::Failed(Error::NoSpace))),
        (_, Some(Reply::Written(written))) => assert_eq!(written as usize, data.len()),
        _ => {}
    }
}

fn set_attributes(world: &mut World, who: u8, Step { a, b, c, .. }: Step) {
    let Some(node) = any_node(world, a, false) else { return };
    let known = world.nodes[&node];
    let set = SetAttr {
        mode: (b & 1 != 0).then_some(u32::from(c)),
        uid: (b & 2 != 0).then_some(u32::from(c)),
        size: (b & 4 != 0).then_some(u64::from(c)),
        mtime: (b & 8 != 0).then_some(SetTime::At(FileTime::new(i64::from(c), 0))),
        atime: (b & 16 != 0).then_some(SetTime::Now),
        kill_suid: b & 32 != 0,
        ..SetAttr::default()
    };
    match world.get(who, node, Op::Setattr(set)) {
        Reply::Attr(attr, _) => {
            assert_eq!(attr.ino, known.ino);
            if let (Kind::Segment, Some(size)) = (known.kind, set.size) {
                assert_eq!(attr.size, size);
                world.bytes.entry(known.ino).or_default().resize(size as usize, 0);
            }
        }
        reply => assert_eq!((reply, known.kind), (Reply::Failed(Error::NoSpace), Kind::Segment)),
    }
}

fn attributes(world: &mut World, who: u8, Step { a, b, c, .. }: Step) {
    let Some(node) = any_node(world, a, b & 64 != 0) else { return };
    let name: &[u8] = if b & 32 != 0 { b"security.x" } else { b"user.x" };
    let value = vec![b; usize::from(c)];
    let reply = match b % 4 {
        0 => world.get(
            who,
            node,
            Op::Setxattr { name, value: &value, create: c % 3 == 1, replace: c % 3 == 2 },
        ),
        1 => world.get(who, node, Op::Getxattr { name, size: u32::from(c) }),
        2 => world.get(who, node, Op::Listxattr { size: u32::from(c) }),
        _ => world.get(who, node, Op::Removexattr { name }),
    };
    let refused = reply == Reply::Failed(Error::NotSupported);
    assert_eq!(refused, name == b"security.x" && b % 4 != 2, "{reply:?}");
}

fn list(world: &mut World, who: u8, Step { a, b, c, .. }: Step) {
    if c.is_multiple_of(4) || world.listings.is_empty() {
        let Some(node) = any_node(world, a, true) else { return };
        let ino = world.nodes[&node].ino;
        let mut stayers: BTreeSet<Vec<u8>> = world.names[&ino].keys().cloned().collect();
        stayers.extend((ino == ROOT).then(|| b"control".to_vec()));
        let Reply::Directory(fh) = world.get(who, node, Op::Opendir) else { panic!("a folder opens") };
        world.listings.push(Listing { node, ino, fh, cookie: 0, seen: Vec::new(), stayers });
    }
    let at = usize::from(a) % world.listings.len();
    world.list(who, at, 1 + usize::from(b % 4));
}

fn lock(world: &mut World, who: u8, Step { a, b, c, .. }: Step) {
    let Some(file) = pick(&world.files, a) else { return };
    let kind = [LockKind::Shared, LockKind::Exclusive, LockKind::Unlock][usize::from(b) % 3];
    let start = u64::from(c % 8);
    let (pid, flock) = (100 + u32::from(who), b & 32 != 0);
    let owner = LockOwner(u64::from(who));
    let lock = LockCall { fh: file.fh, owner, pid, flock, kind, start, end: start + u64::from(b % 5) };
    match b >> 6 {
        0 => drop(world.get(who, file.node, Op::Getlk(lock))),
        1 => assert_eq!(world.get(who, file.node, Op::Flush { owner }), Reply::Done),
        more => drop(world.ask(who, file.node, Op::Setlk { lock, wait: more == 3 })),
    }
}

fn configure(world: &mut World, who: u8, Step { a, b, c, .. }: Step) {
    let files: Vec<_> = world.names.values().flat_map(|names| names.values()).copied().collect();
    let files: Vec<_> = files.into_iter().filter(|(_, kind)| kind.is_file()).collect();
    let Some((ino, kind)) = pick(&files, a) else { return };
    let mailbox = [
        ("maxmsg", "1"),
        ("maxmsg", "5"),
        ("maxmsg", "max"),
        ("maxbytes", "64"),
        ("maxbytes", "max"),
        ("msgsize", "64"),
        ("msgsize", "20"),
        ("full", "wait"),
        ("full", "fail"),
        ("full", "drop-oldest"),
        ("msgsize", "many"),
        ("full", ""),
    ];
    let segment = [("lifetime", "keep"), ("lifetime", "last-close"), ("size_max", "max"), ("size_max", "x")];
    let (key, value) = if kind == Kind::Mailbox {
        mailbox[usize::from(b) % mailbox.len()]
    } else {
        segment[usize::from(b) % segment.len()]
    };
    let path = world.path(ino).expect("it has a name");
    let path: Vec<&[u8]> = path.iter().map(Vec::as_slice).chain([&b"config"[..], key.as_bytes()]).collect();
    let node = world.control(who, &path).expect("every file has its folder in control/");
    let reply = world.store(who, node, value.as_bytes());
    if value == "last-close" {
        world.last_close.insert(ino);
    } else if value == "keep" {
        world.last_close.remove(&ino);
    }
    let bad = ["many", "", "x"].contains(&value);
    assert_eq!(reply, if bad { Reply::Failed(Error::Invalid) } else { Reply::Written(value.len() as u32) });
    if !bad && c.is_multiple_of(2) {
        assert_eq!(world.show(who, node), format!("{value}\n"));
    }
}

fn show(world: &mut World, who: u8, a: u8) {
    let files: Vec<_> = world.names.values().flat_map(|names| names.values()).copied().collect();
    let path = pick(&files, a).and_then(|(ino, kind)| Some((world.path(ino)?, kind)));
    let Some((path, kind)) = path.filter(|(_, kind)| kind.is_file()) else { return };
    let path: Vec<&[u8]> = path.iter().map(Vec::as_slice).chain([&b"status"[..]]).collect();
    let node = world.control(who, &path).expect("every file has its folder in control/");
    let text = world.show(who, node);
    assert!(text.starts_with(if kind == Kind::Mailbox { "depth " } else { "size " }), "{text}");
    assert!(text.ends_with('\n'));
}

fn poll(world: &mut World, who: u8, Step { a, b, .. }: Step) {
    let Some(file) = pick(&world.files, a) else { return };
    let events = PollEvents { input: b % 3 != 0, output: b % 5 != 0 };
    let poller = Poller { handle: PollHandle(file.fh.0), events };
    let reply = world.get(
        who,
        file.node,
        Op::Poll { fh: file.fh, arm: (b % 2 == 0).then_some(poller), reads: false },
    );
    let Reply::Ready(ready) = reply else { panic!("{reply:?}") };
    let gone = file.kind == Kind::Mailbox && world.find(file.ino).is_none();
    assert_eq!(ready.hangup, gone);
    if file.kind == Kind::Mailbox && ready.readable && file.flags.read {
        let offset = if file.flags.write { 0 } else { file.position };
        let op = Op::Read { fh: file.fh, offset, size: 64, nonblock: true, direct: true };
        let reply = world.get(who, file.node, op);
        assert!(matches!(reply, Reply::Message(_)), "POLLIN, and then {reply:?}");
        if let (Reply::Message(slice), Some(open)) =
            (reply, world.files.iter_mut().find(|open| open.fh == file.fh))
        {
            open.position = offset + slice.as_bytes().len() as u64;
        }
    }
}

fn allocate(world: &mut World, who: u8, Step { a, b, c, .. }: Step) {
    let Some(file) = pick(&world.files, a) else { return };
    let mode = [0, 1, 3, 16, 17][usize::from(b) % 5];
    let (offset, length) = (u64::from(c), 1 + u64::from(b) * 10);
    let reply = world.get(who, file.node, Op::Fallocate { fh: file.fh, offset, length, mode });
    if file.kind != Kind::Segment || !file.flags.write {
        return assert_eq!(reply, Reply::Failed(Error::NotSupported));
    }
    if reply == Reply::Failed(Error::NoSpace) {
        return;
    }
    assert_eq!(reply, Reply::Done);
    let bytes = world.bytes.entry(file.ino).or_default();
    let (from, to) = (offset as usize, (offset + length) as usize);
    if mode == 0 || mode == 16 {
        bytes.resize(bytes.len().max(to), 0);
    }
    if mode >= 3 {
        let to = to.min(bytes.len());
        bytes[from.min(to)..to].fill(0);
    }
}

/// Does what no kernel would: any numbers, in any order. Whatever comes is answered, once.
pub fn perform_garbage(world: &mut World, step: Step) {
    world.wild = true;
    let Step { what, who, a, b, c } = step;
    let who = who % 4;
    world.now += u64::from(c % 8) * 10_000_000;
    let wild = [
        0,
        1,
        2,
        3,
        17,
        1 << 62,
        (1 << 62) + 64,
        (1 << 62) + 65,
        (1 << 62) + 66,
        u64::MAX,
        (1 << 62) + 17 * 64,
    ];
    let number = |number: u8| match number {
        0..150 => u64::from(number % 40),
        150..220 => (1 << 62) + u64::from(number % 30) * 64 + u64::from(c % 9),
        _ => wild[usize::from(number) % wild.len()],
    };
    let (node, fh) =
        (NodeId(number(a)), Fh(if b >= 250 { u64::MAX - u64::from(b) } else { u64::from(b % 16) }));
    let (name, other) = (name(b), name((c >> 8) as u8));
    let far = [0, 1, u64::from(c), 1 << 31, i64::MAX as u64, u64::MAX][usize::from(c) % 6];
    let size = [0, 1, u32::from(c), 1 << 20][usize::from(c >> 3) % 4];
    let data = vec![b; usize::from(c % 100)];
    let lock = LockCall {
        fh,
        owner: LockOwner(u64::from(who)),
        pid: 1,
        flock: b & 1 != 0,
        kind: [LockKind::Shared, LockKind::Exclusive, LockKind::Unlock][usize::from(c) % 3],
        start: far,
        end: far.wrapping_add(u64::from(b)),
    };
    let nonblock = c & 1 != 0;
    let op = match what % 37 {
        0 => Op::Lookup { name },
        1 => Op::Forget(vec![(node, far), (NodeId(number(b)), 1)]),
        2 => Op::Getattr,
        3 => Op::Setattr(SetAttr {
            size: Some(far),
            uid: Some(1),
            mode: Some(u32::from(c)),
            ..SetAttr::default()
        }),
        4 => Op::Mknod { name, mode: u32::from(c) },
        5 => Op::Mkdir { name, mode: u32::from(c) },
        6 => Op::Unlink { name },
        7 => Op::Rmdir { name },
        8 => Op::Rename { name, new_parent: NodeId(number(b)), new_name: other, how: RenameHow::Exchange },
        9 => Op::Rename { name, new_parent: NodeId(number(b)), new_name: other, how: RenameHow::Replace },
        10 | 11 => Op::Open(flags(c as u8)),
        12 | 13 => Op::Create { name, mode: u32::from(c) & 0o777, flags: flags(c as u8) },
        14..=16 => Op::Read { fh, offset: far, size, nonblock, direct: c & 2 == 0 },
        17..=19 => {
            let (append, page_cache, kill_suid) = (c & 2 != 0, c & 4 != 0, c & 8 != 0);
            Op::Write { fh, offset: far, data: &data, nonblock, append, page_cache, kill_suid }
        }
        20 => Op::Flush { owner: lock.owner },
        21 => Op::Release { fh },
        22 => Op::Opendir,
        23 => Op::Readdir { fh, offset: far, size },
        24 => Op::Setxattr { name: b"user.y", value: &data, create: false, replace: false },
        25 => Op::Getxattr { name, size },
        26 => Op::Listxattr { size },
        27 => Op::Removexattr { name: b"user.y" },
        28 => Op::Getlk(lock),
        29 => Op::Setlk { lock, wait: b & 2 != 0 },
        30 => Op::Poll { fh, arm: Some(Poller::new(PollHandle(far))), reads: a & 1 == 0 },
        31 => {
            Op::Fallocate { fh, offset: far, length: u64::from(b).wrapping_mul(far), mode: u32::from(b) % 20 }
        }
        32 => Op::Lseek { fh, offset: far, whence: Whence::Hole },
        33 => {
            let to = Fh(u64::from(c));
            Op::CopyFileRange(CopyRange {
                from: fh,
                from_offset: far,
                to,
                to_offset: far,
                length: far,
                long: a % 2 == 0,
            })
        }
        34 => Op::Symlink { name, target: other },
        35 => Op::Readlink,
        _ => Op::Interrupt { unique: pick(&world.waiting(), a).unwrap_or(far) },
    };
    world.ask(who, node, op);
}
