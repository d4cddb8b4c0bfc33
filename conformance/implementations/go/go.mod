module chat

go 1.19

require google.golang.org/protobuf v1.28.1

// Debian's packages, in place of the network: golang-google-protobuf-dev.
replace google.golang.org/protobuf => /usr/share/gocode/src/google.golang.org/protobuf

exclude (
	github.com/golang/protobuf v1.5.0
	github.com/google/go-cmp v0.5.5
)
