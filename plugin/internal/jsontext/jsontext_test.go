package jsontext

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzAsEncodingJSON holds the parser to the standard library's: the same texts are good, and say the same.
func FuzzAsEncodingJSON(f *testing.F) {
	for _, text := range []string{
		``, ` `, `null`, `true`, `false `, `nul`, `"a"`, `"\u00e4\ud83d\ude00\ud800x\n\/"`, `"\x"`, "\"\t\"", `"\u12"`, `"`, `"\`, `"\ud800\u0041"`,
		`0`, `-0`, `01`, `1.`, `.5`, `-`, `1e`, `1e+5`, `-12.50E-3`, `1 2`, `+1`, `[]`, `[ ]`, `[1,]`, `[,1]`, `[1 2]`, `[`, `]`, `[[],[1,{"a":[]}]]`,
		`{}`, `{"a":1,"a":2}`, `{"a":1,}`, `{"a"}`, `{"a":}`, `{1:2}`, `{"a" : {"b": [true, null]}, "c":"d"}`, `{"a":1]`, "\xff", "\"\xff\"", "\ufeff{}",
		"{\"a\":1}\x00", "[1]\v", strings.Repeat("[", 100) + strings.Repeat("]", 100),
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) > maxDepth {
			t.Skip("deeper than anything that is read here")
		}
		var want any
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber()
		wantErr := json.Unmarshal(data, new(any))
		if wantErr == nil {
			wantErr = decoder.Decode(&want)
		}
		got, err := Parse(data)
		if wantErr != nil && strings.Contains(wantErr.Error(), "out of range") {
			t.Skip("how large a number may be is its reader's business")
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: %v, encoding/json: %v", data, err, wantErr)
		}
		if err == nil && utf8.Valid(data) && !reflect.DeepEqual(plain(got), want) {
			t.Fatalf("%q: %#v, encoding/json: %#v", data, plain(got), want)
		}
	})
}

// plain gives what encoding/json gives.
func plain(v Value) any {
	switch v.kind {
	case boolean:
		return v.text == "true"
	case number:
		return json.Number(v.text)
	case text:
		return v.text
	case array:
		list := []any{}
		for _, item := range v.items {
			list = append(list, plain(item))
		}
		return list
	case object:
		members := map[string]any{}
		for i, name := range v.names {
			members[name] = plain(v.items[i])
		}
		return members
	}
	return nil
}

func TestWriterWritesWhatParsesBack(t *testing.T) {
	for _, indent := range []string{"", "  "} {
		w := &Writer{Indent: indent}
		w.Open('{')
		w.Member("text", "a\"b\\c\n\x01ä\xffz\u2028")
		w.Name("list")
		w.Strings([]string{"x", "y"})
		w.Name("empty")
		w.Open('[')
		w.Close(']')
		w.Name("n")
		w.Int(-5)
		w.Name("f")
		w.Float(83211.482716)
		w.Name("b")
		w.Bool(true)
		w.Name("o")
		w.Open('{')
		w.Close('}')
		w.Close('}')
		var got map[string]any
		if err := json.Unmarshal(w.Bytes(), &got); err != nil {
			t.Fatalf("%s: %v", w.Bytes(), err)
		}
		want := map[string]any{"text": "a\"b\\c\n\x01ä\ufffdz\u2028", "list": []any{"x", "y"}, "empty": []any{}, "n": -5.0, "f": 83211.482716, "b": true, "o": map[string]any{}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v", w.Bytes(), got)
		}
	}
}

func TestDeepNestingIsRefused(t *testing.T) {
	if _, err := Parse([]byte(strings.Repeat("[", 1_000_000))); err == nil || !strings.Contains(err.Error(), "nested") {
		t.Error(err)
	}
}

func TestReaderNamesWhatIsWrong(t *testing.T) {
	document, err := Parse([]byte("{\n \"s\": 1, \"n\": \"x\", \"big\": 1e999, \"whole\": 1.5, \"list\": {}, \"strings\": [\"a\", 2], \"null\": null}"))
	if err != nil {
		t.Fatal(err)
	}
	for want, ask := range map[string]func(*Reader){
		"s is of type number, not string":           func(r *Reader) { r.String(document.Get("s"), "s") },
		"n is of type string, not number":           func(r *Reader) { r.Float(document.Get("n"), "n") },
		"big: 1e999 is out of range":                func(r *Reader) { r.Float(document.Get("big"), "big") },
		"whole: 1.5 is no whole number from 0 to 9": func(r *Reader) { r.Int(document.Get("whole"), "whole", 0, 9) },
		"list is of type object, not array":         func(r *Reader) { r.Strings(document.Get("list"), "list") },
		"strings[1] is of type number, not string":  func(r *Reader) { r.Strings(document.Get("strings"), "strings") },
	} {
		r := &Reader{}
		ask(r)
		if r.Err == nil || r.Err.Error() != want {
			t.Errorf("%v, want %s", r.Err, want)
		}
		if line, column := r.Err.(*Error).Position([]byte("{\n \"s\": 1")); want[0] == 's' && want[1] == ' ' && (line != 2 || column != 7) {
			t.Errorf("line %d, column %d", line, column)
		}
	}
	r := &Reader{}
	zero := strconv.Quote(r.String(document.Get("null"), "")) + strconv.FormatInt(r.Int(document.Get("absent"), "", 1, 2), 10)
	if r.Err != nil || zero != `""0` || document.Get("absent").Given() || !document.Get("absent").Absent() || document.Get("null").Absent() {
		t.Error(r.Err, zero)
	}
}
