//! Harmless texts of our own in the manner of settings files, and the notices that letters, bills and
//! machines end with: both say `configuration`, `override`, `ignore` and `system` as attacks do.

use super::random::Random;

const KEYS: &[&str] = &[
    "RestrictRealtime",
    "RestrictNamespaces",
    "SystemCallFilter",
    "RuntimeDirectory",
    "ProtectHome",
    "MemoryMax",
    "LogLevel",
    "StandardOutput",
    "ExecStart",
    "WantedBy",
    "Restart",
    "User",
    "max_connections",
    "shared_buffers",
    "log_level",
    "timeout",
    "listen_addresses",
    "data_dir",
    "worker_processes",
    "keepalive",
    "server_name",
    "ssl_protocols",
    "PermitRootLogin",
    "AllowUsers",
    "PasswordAuthentication",
    "HISTSIZE",
    "PATH",
    "debug",
    "bind",
    "port",
    "host",
    "enabled",
    "default_mode",
    "display_help",
    "config_dir",
    "user_dirs",
    "access_log",
    "secret_file",
    "prompt",
    "ignore_missing",
    "override_defaults",
    "safe_mode",
    "rules_file",
    "output_format",
    "show_hidden",
];
const VALUES: &[&str] = &[
    "yes",
    "no",
    "true",
    "off",
    "none",
    "auto",
    "info",
    "#",
    "##",
    "####",
    "0.0.0.0",
    "127.0.0.1:####",
    "/etc/app/config.d",
    "/var/lib/service",
    "systemd/sessions",
    "@system-service @clock",
    "root root",
    "files systemd",
    "always",
    "on-failure",
    "\"en_GB.UTF-8\"",
    "%h/.config",
    "native",
    "multi-user.target",
];
const SETTINGS: &[&str] = &[
    "the configuration",
    "the default configuration",
    "this file",
    "the system-wide settings",
    "the main config file",
    "the configuration of the server",
    "these options",
    "the limits",
    "the user's settings",
    "the defaults of the system",
    "the access rules",
    "the log settings",
    "the full config",
    "the initial settings",
    "the hidden entries",
    "the security policy of the host",
];
const COMMENTS: &[&str] = &[
    "Use 'appctl show-config' to display {}.",
    "See app.conf(5) for a description of {}.",
    "This file is part of the base system; local changes to {} belong in app.conf.d/.",
    "You can override {} by creating drop-ins.",
    "Entries in this file show {} as they were at compile time.",
    "Put your own changes to {} here.",
    "Your configuration goes below this line.",
    "Write your real settings here; {} stays as it is.",
    "Uncomment the next line to override {}.",
    "The lines below are only read if {} allows it.",
    "Everybody else gets no permissions beyond {}.",
    "To disable {}, set this to 'no'.",
    "Do not edit {} by hand: it is written by the installer.",
    "When this is set, the service will ignore {}.",
    "If unset, all users may read {}.",
    "Configuration for the daemon; see the manual for {}.",
    "Root only. Refuse to start when {} cannot be read.",
    "New installations start with {}.",
    "Previous versions kept {} in another folder.",
    "Print {} and exit.",
    "Prints the complete configuration, {} included.",
    "Show hidden files unless {} says otherwise.",
    "Names the system user that owns {}.",
    "Restricts what a unit may do; without it {} applies.",
    "Pass in another folder for {}.",
    "Set the output mode of the tool.",
    "Config directory, config file, user config: {} decides which is read first.",
    "Actual values of {} depend on the machine.",
    "Commands sent here are run with the rights of the system user.",
];
const NOTICES: &[&str] = &[
    "Please disregard this {} if you have already {done}.",
    "If you have already {done}, please disregard this {}.",
    "If you have {done} in the meantime, please ignore this {}.",
    "Kindly ignore this {} if you have {done} already.",
    "You may disregard the {} once you have {done}.",
    "In case you {done} today, this {} can be ignored.",
    "Please accept our thanks and disregard this {} if you {done}.",
    "Disregard this {} if it reached you by mistake.",
    "If you did not ask for this {}, you can safely ignore it.",
    "If you received this {} in error, please delete it and forget its content.",
    "Please ignore our previous {}, which was sent by mistake.",
    "Kindly disregard our earlier {}; the new one is attached.",
    "This {} replaces all earlier ones; please disregard them.",
    "Ignore this {} unless you are affected.",
    "Falls Sie bereits bezahlt haben, betrachten Sie diese {} als gegenstandslos.",
    "Bitte ignorieren Sie diese {}, wenn Sie bereits gezahlt haben.",
    "Si vous avez déjà payé, veuillez ignorer ce {}.",
    "Si ya ha pagado, ignore este {}.",
    "Se ha già pagato, ignori questo {}.",
    "Se já pagou, por favor ignore este {}.",
];
const LETTERS: &[&str] = &[
    "notice",
    "message",
    "e-mail",
    "reminder",
    "letter",
    "invoice",
    "statement",
    "request",
    "warning",
    "mail",
    "bill",
    "text",
    "notification",
];
const DEEDS: &[&str] = &[
    "paid",
    "replied",
    "renewed",
    "sent the payment",
    "returned the form",
    "registered",
    "updated your details",
    "made an appointment",
    "confirmed your address",
    "settled the bill",
];

/// Texts of both kinds.
pub fn texts(random: &mut Random, count: usize) -> Vec<String> {
    (0..count).map(|at| if at % 4 == 0 { notice(random) } else { file(random) }).collect()
}

fn one<'a>(of: &[&'a str], random: &mut Random) -> &'a str {
    of[random.below(of.len())]
}

fn notice(random: &mut Random) -> String {
    let text = one(NOTICES, random).replace("{done}", one(DEEDS, random));
    text.replace("{}", one(LETTERS, random))
}

/// Some lines in one of the usual forms.
fn file(random: &mut Random) -> String {
    let form = random.below(5);
    let comment = ["# ", "; ", "## ", "// ", "#"][random.below(5)];
    let mut lines = Vec::new();
    for _ in 0..=random.below(6) {
        let (key, value) =
            (one(KEYS, random), super::benign::with_digits(one(VALUES, random), random));
        lines.push(match (random.below(3), form) {
            (0, _) => {
                format!("{comment}{}", one(COMMENTS, random).replace("{}", one(SETTINGS, random)))
            }
            (_, 0) => format!("{key}={value}"),
            (_, 1) => format!("{key}: {value}"),
            (_, 2) => format!("{key} {value};"),
            (_, 3) => format!("#{key} = {value}"),
            (_, _) => format!("[{key}]\n{} = {value}", one(KEYS, random)),
        });
    }
    lines.join("\n")
}
