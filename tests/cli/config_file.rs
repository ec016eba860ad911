//! `ipcfs mount --config` and `ipcfs config --save`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::common::{OTHER, USER};
use crate::place::Place;

const SHOP: &str = r#"
[folders.mailboxes]
msgsize = "64K"

[folders."mailboxes/shop"]
owner = 4711
group = 4712
mode = "0750"
maxmsg = 500
ttl = "90s"

[mailboxes."shop/orders"]
owner = 4711
mode = "0620"
maxmsg = 5
full = "fail"
dead_letter = "shop/fail\u0065d"

[mailboxes."shop/failed"]
dead_letter = "007"

[mailboxes."007"]

[folders."topics/city"]
[topics."city/news"]
backlog = 7
mode = "0644"

[segments.board]
size = "1M"
size_max = "2M"
mode = "0660"
"#;

/// A place with that text in the file `config`.
fn place(text: &str) -> Option<(Place, String)> {
    let place = Place::new()?;
    let file = place.beside("config");
    fs::write(&file, text).unwrap();
    Some((place, file.display().to_string()))
}

/// What `ipcfs config DIR --save` prints, less the first line, which names the mount.
fn saved(place: &Place) -> String {
    let outcome = place.ipcfs(&["config", "--save"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    outcome.stdout.split_once('\n').unwrap().1.to_owned()
}

#[test]
fn what_the_file_names_is_there_when_the_mount_is_ready() {
    let Some((place, file)) = place(SHOP) else { return };
    place.mount(&["--config", &file]);
    let values = "cd $DIR/control/mailboxes && cat config/msgsize shop/config/maxmsg shop/orders/config/msgsize \
        shop/orders/config/maxmsg shop/orders/config/ttl shop/orders/config/full shop/orders/config/dead_letter \
        shop/failed/config/maxmsg shop/failed/config/dead_letter && cat $DIR/control/topics/city/news/config/backlog \
        $DIR/control/segments/board/config/size_max";
    assert_eq!(place.sh(values), "65536\n500\n65536\n5\n1m 30s\nfail\nshop/failed\n500\n007\n7\n2097152\n");
    let owned = |path: &str| {
        let file = fs::metadata(place.path(path)).unwrap();
        (file.uid(), file.gid(), format!("{:o}", file.mode() & 0o7777))
    };
    assert_eq!(owned("mailboxes/shop"), (USER, OTHER, "750".into()));
    assert_eq!(owned("mailboxes/shop/orders"), (USER, 0, "620".into()));
    assert_eq!(owned("topics/city/news").2, "644");
    assert_eq!(fs::metadata(place.path("segments/board")).unwrap().len(), 1 << 20);
}

#[test]
fn what_is_saved_gives_the_same_mount_again() {
    let Some((place, file)) = place(SHOP) else { return };
    place.mount(&["--config", &file]);
    place.sh(
        "cd $DIR/mailboxes && touch 'odd \"name\\' && echo 9 > '../control/mailboxes/odd \"name\\/config/maxmsg' &&
        chmod 3711 shop && truncate -s 5 ../segments/passing &&
        echo last-close > ../control/segments/passing/config/lifetime",
    );
    let first = saved(&place);
    assert!(
        first.contains("[mailboxes.\"odd \\\"name\\\\\"]\n") && first.contains("mode = \"3711\"\n"),
        "{first}"
    );
    assert!(!first.contains("passing"), "it ends with its users: {first}");
    place.sh("$IPCFS umount $DIR");

    fs::write(&file, &first).unwrap();
    place.mount(&["-o", &format!("config={file}")]);
    assert_eq!(saved(&place), first);
}

#[test]
fn a_second_time_changes_nothing_and_keeps_messages() {
    let Some((place, file)) = place(&SHOP.replace("full = \"fail\"", "durable = \"daemon\"")) else { return };
    let store = place.beside("store").display().to_string();
    place.mount(&["--config", &file, "--store", &store]);
    place.sh("echo one pizza > $DIR/mailboxes/shop/orders && $IPCFS umount $DIR");
    place.mount(&["--config", &file, "--store", &store]);
    assert_eq!(place.sh("cat $DIR/mailboxes/shop/orders"), "one pizza\n");
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_nothing_is_mounted() {
    for (text, line, why) in [
        ("[mailboxes.a]\nmaxmsg = \n", 2, ""),
        ("[mailboxes.a]\n\nmaxmesg = 3\n", 3, "there is no setting maxmesg\n"),
        // Refused by the mount itself.
        ("[mailboxes.a]\nmaxmsg = 0\n", 2, "maxmsg=0 was refused\n  maxmsg: 0 is out of range"),
        ("[mailboxes.a]\ndead_letter = \"b\"\n", 2, "dead_letter=b was refused\n"),
        ("[mailboxes.\"a/b\"]\n", 1, "cannot make mailboxes/a/b: No such file or directory\n"),
        ("[mailboxes.config]\n", 1, "cannot make mailboxes/config: Invalid argument\n"),
        (
            "[segments.a]\nsize = \"1000T\"\n",
            2,
            "cannot give its size to segments/a: No space left on device\n",
        ),
    ] {
        let Some((place, file)) = place(text) else { return };
        for how in [&["-f"][..], &[]] {
            let outcome = place.try_mount(&[how, &["--config", &file]].concat());
            outcome.failed(&format!("cannot mount on {}: {file}:{line}: {why}", place.name()), &[]);
            place.assert_nothing_left();
        }
    }
    let Some((place, file)) = place("") else { return };
    let outcome = place.try_mount(&["--config", &format!("{file}.toml")]);
    let what =
        format!("cannot mount on {}: cannot read {file}.toml: No such file or directory", place.name());
    outcome.failed(&what, &[]);
    place.assert_nothing_left();
}
