package ringbroker

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func readSpec(t testing.TB, into any, path ...string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "spec"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

func TestCodesAreThoseOfTheTable(t *testing.T) {
	var table struct {
		Errors []struct {
			Code      Code
			Name      string
			Retryable bool
		}
	}
	readSpec(t, &table, "errors.json")
	for _, e := range table.Errors {
		if e.Code.String() != e.Name || e.Code.Retryable() != e.Retryable {
			t.Errorf("%d is %s, retryable %v; the table says %s, %v", e.Code, e.Code, e.Code.Retryable(), e.Name, e.Retryable)
		}
	}
	if len(codes) != len(table.Errors) {
		t.Errorf("%d codes, and %d in the table", len(codes), len(table.Errors))
	}
}

func TestUnknownCodesAreNamedByTheirRange(t *testing.T) {
	var table struct {
		Ranges []struct {
			From Code
			Name string
		}
	}
	readSpec(t, &table, "errors.json")
	for _, r := range table.Ranges {
		if _, ok := ranges[r.From/1000]; !ok {
			t.Errorf("the range of %d, %s, has no name", r.From, r.Name)
		}
	}
	if name := Code(4711).String(); name != "CAPACITY_4711" {
		t.Errorf("4711 is called %s", name)
	}
}

func TestDTypesAreThoseOfTheTable(t *testing.T) {
	var table struct {
		DTypes []struct {
			Name string
			Size int     `json:"size_bytes"`
			Go   *string `json:"go"`
			Bits string
		}
	}
	readSpec(t, &table, "dtypes.json")
	for _, row := range table.DTypes {
		d, err := ParseDType(row.Name)
		if err != nil {
			t.Error(err)
			continue
		}
		element := row.Bits
		if row.Go != nil {
			element = *row.Go
		}
		if d.String() != row.Name || d.Size() != row.Size || dtypes[d].element != element {
			t.Errorf("%+v is %s, %d bytes, %s in Go", row, d, d.Size(), dtypes[d].element)
		}
	}
	if len(dtypes)-1 != len(table.DTypes) {
		t.Errorf("%d dtypes, and %d in the table", len(dtypes)-1, len(table.DTypes))
	}
}

func TestDTypeSizesAreThoseOfTheVectors(t *testing.T) {
	var vectors struct {
		Sizes []struct {
			DType string
			Shape []string
			Bytes string
			Fits  bool
		}
		Unknown []struct {
			DType string
			Error struct{ Code Code }
		}
	}
	readSpec(t, &vectors, "vectors", "dtypes.json")
	for _, v := range vectors.Sizes {
		d, err := ParseDType(v.DType)
		if err != nil {
			t.Fatal(err)
		}
		var shape []uint64
		for _, dim := range v.Shape {
			n, err := strconv.ParseUint(dim, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			shape = append(shape, n)
		}
		size, ok := d.Bytes(shape...)
		if ok != v.Fits || ok && strconv.FormatUint(size, 10) != v.Bytes {
			t.Errorf("%s %v has %d bytes (%v), not %s (%v)", v.DType, v.Shape, size, ok, v.Bytes, v.Fits)
		}
	}
	for _, v := range vectors.Unknown {
		if _, err := ParseDType(v.DType); !errors.Is(err, v.Error.Code) {
			t.Errorf("%q: %v", v.DType, err)
		}
	}
	if len(vectors.Sizes) == 0 || len(vectors.Unknown) == 0 {
		t.Error("the vectors are empty")
	}
}
