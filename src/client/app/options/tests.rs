use super::*;

fn name_of(arguments: &[&str]) -> Result<Option<String>, Mistake> {
    let arguments = ["chat-client"].iter().chain(arguments);
    Options::try_parse_from(arguments)
        .map(|options| options.name().map(str::to_owned))
        .map_err(|error| error.kind())
}

#[test]
fn the_command_is_consistent() {
    Options::command().debug_assert();
}

#[test]
fn the_argument_wins_over_the_address() {
    let name = |name: &str| Ok(Some(name.to_owned()));
    assert_eq!(name_of(&["h:1", "Alice"]), name("Alice"));
    assert_eq!(name_of(&["chat://Bob@h:1"]), name("Bob"));
    assert_eq!(name_of(&["chat://Bob@h:1", "Alice"]), name("Alice"));
    assert_eq!(name_of(&["h:1"]), Ok(None));
}

#[test]
fn mistakes_are_refused() {
    assert_eq!(name_of(&["host:port"]), Err(Mistake::ValueValidation));
    // A port may be left out.
    assert_eq!(name_of(&["host"]), Ok(None));
    assert_eq!(
        name_of(&["h:1", "A", "--connect-timeout", "0"]),
        Err(Mistake::ValueValidation)
    );
    assert_eq!(name_of(&[]), Err(Mistake::MissingRequiredArgument));
}

fn configured(text: &str, arguments: &[&str]) -> Result<Options, String> {
    let arguments: Vec<OsString> = ["chat-client"]
        .iter()
        .chain(arguments)
        .map(Into::into)
        .collect();
    let options = Options::try_parse_from(&arguments).expect("a command line");
    options.with_config(text, &arguments)
}

const CONFIG: &str = r#"
    name = "everywhere"
    time = "long"
    bell = false
    no-reconnect = true
    connect-timeout = 3

    [servers.work]
    address = "chats://chat.example.org:7"
    name = "alice"
    time = "off"
    password-file = "/secret"

    [servers.home]
    address = "chat://bob@localhost"
"#;

#[test]
fn a_file_has_options_and_servers() {
    let work = configured(CONFIG, &["work"]).expect("options");
    assert_eq!(work.address.to_string(), "chats://chat.example.org:7");
    assert_eq!(work.name(), Some("alice"));
    assert_eq!(
        (&*work.time, work.bell, work.no_reconnect),
        ("off", false, true)
    );
    assert_eq!(
        (work.connect_timeout, work.password_file),
        (3, Some("/secret".into()))
    );
    let home = configured(CONFIG, &["home", "--time", "short", "--bell=on"]);
    let home = home.expect("options");
    // The command line wins, and the address has a name.
    assert_eq!(
        (&*home.time, home.bell, home.name()),
        ("short", true, Some("bob"))
    );
    let other = configured(CONFIG, &["h:1"]).expect("options");
    assert_eq!((&*other.time, other.name()), ("long", Some("everywhere")));
    assert_eq!(other.password_file, None);
    let named = configured(CONFIG, &["work", "Carol"]).expect("options");
    assert_eq!(named.name(), Some("Carol"));
}

#[test]
fn a_wrong_file_is_refused() {
    for (text, sentence) in [
        ("tiem = \"off\"", "unknown key tiem: did you mean time?"),
        (
            "help = true",
            "unknown key help: the keys are the options of chat-client --help",
        ),
        ("plain = 1", "plain is true or false"),
        (
            "time = [1]",
            "time is a text in quotes, a number, true or false",
        ),
        ("servers = 1", "servers is a table: [servers.NAME]"),
        ("[servers.x]\nname = \"a\"", "servers.x has no address"),
        (
            "[servers.x]\naddress = \"h\"\nbel = \"on\"",
            "servers.x: unknown key bel: did you mean bell?",
        ),
        (
            "[servers.x]\naddress = 1",
            "servers.x: address is a text in quotes",
        ),
        (
            "bell = \"loud\"",
            "invalid value 'loud' for '--bell <on|off>': it is on or off",
        ),
    ] {
        let refused = configured(text, &["h:1", "A"]).expect_err(text);
        assert_eq!(refused, sentence, "{text}");
    }
    let refused = configured("a = 1\nb =", &["h:1", "A"]).expect_err("no TOML");
    assert!(refused.starts_with("line 2: "), "{refused}");
}
