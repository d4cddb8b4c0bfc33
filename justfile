# What README.md and CONTRIBUTING.md name, by a short word. Each recipe is the plain
# command, which can be typed as well.

# List the recipes
default:
    @just --list

# Build the server and run it
run *OPTIONS:
    cargo run --release --locked --bin chat-server -- {{ OPTIONS }}

# Run all tests, or those whose names hold NAME
test *NAME:
    cargo test --locked {{ NAME }}

# Run the server against its model, with so many seeds
simulate SEEDS="1000000":
    SIMULATION_SEEDS={{ SEEDS }} cargo test --release --locked --lib simulation -- --nocapture

# Run one seed of the simulation again, and print all that happens in it
replay SEED:
    SIMULATION_SEED={{ SEED }} cargo test --locked --lib simulation -- --nocapture

# Fuzz framing, http, room, screen, transcript or websocket; what is found lies in fuzz/target/found
fuzz TARGET SECONDS="600":
    mkdir -p fuzz/target/found/{{ TARGET }}
    cargo fuzz run -s none {{ TARGET }} fuzz/target/found/{{ TARGET }} fuzz/corpus/{{ TARGET }} -- -max_total_time={{ SECONDS }}

# Mutate framing, log and rules, and see the tests notice
mutants *OPTIONS:
    cargo mutants {{ OPTIONS }}

# Measure a server: just bench burst ADDRESS --members 1000
bench *ARGUMENTS:
    cargo run --release --locked --bin chat-bench -- {{ ARGUMENTS }}

# Measure chat-server beside the servers that people would pick instead
competitors *OPTIONS="--runs 3 --out target/competitors":
    benches/competitors/run {{ OPTIONS }}

# Build the starters of some languages, and judge them: just starters java cpp
starters *LANGUAGES="typescript go":
    conformance/implementations/judge {{ LANGUAGES }}

# Write anew what is generated and kept in the repository
generate:
    BLESS=1 cargo test --locked --test generated

# Build the tarball and the Debian package, and try them
package *TARGET:
    packaging/build {{ TARGET }}
    packaging/check

# Check all that must hold before a change lands
ci:
    .ci/run
