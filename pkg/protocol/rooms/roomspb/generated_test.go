package roomspb

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/pluginpb"
)

const (
	source    = "rooms.proto"
	generated = "rooms.pb.go"
)

// write is what go generate asks for.
var write = flag.Bool("write", false, "write "+generated+" instead of comparing it")

// generate returns the code that protoc-gen-go makes of the source.
func generate(t *testing.T) []byte {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{}, SourceInfoMode: protocompile.SourceInfoStandard}
	files, err := compiler.Compile(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: []string{source}, Parameter: proto.String("paths=source_relative")}
	for _, f := range files {
		request.ProtoFile = append(request.ProtoFile, protodesc.ToFileDescriptorProto(f))
	}
	plugin, err := protogen.Options{}.New(request)
	if err != nil {
		t.Fatal(err)
	}
	internal_gengo.GenerateFile(plugin, plugin.FilesByPath[source])
	answer := plugin.Response()
	if answer.Error != nil || len(answer.File) != 1 || answer.File[0].GetName() != generated {
		t.Fatalf("the generator answers %v", answer)
	}
	return []byte(answer.File[0].GetContent())
}

func TestGenerated(t *testing.T) {
	want := generate(t)
	if *write {
		if err := os.WriteFile(generated, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(generated)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what %s says: go generate", generated, source)
	}
}
