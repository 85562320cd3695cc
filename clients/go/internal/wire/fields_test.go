package wire

import (
	"reflect"
	"strconv"
	"strings"
)

// fieldsOf writes a message as the vectors do (spec/vectors/README.md), walking the table and the struct side by side.
func (tab table) fieldsOf(m Message) []any {
	v := reflect.ValueOf(m).Elem()
	for _, row := range tab.Messages {
		if names[row.Name] == v.Type() {
			return tab.tuple(v, row.Fields)
		}
	}
	return nil
}

func (tab table) tuple(v reflect.Value, fields [][2]string) []any {
	all := []any{}
	for i, f := range fields {
		all = append(all, tab.value(v.Field(i), f[1]))
	}
	return all
}

func (tab table) value(v reflect.Value, name string) any {
	if v.Kind() == reflect.Struct && strings.HasPrefix(v.Type().Name(), "Opt[") {
		if !v.FieldByName("Set").Bool() {
			return nil
		}
		v = v.FieldByName("Value")
	}
	kind := tab.Types[strings.TrimSuffix(name, "?")]
	switch kind.Kind {
	case "int":
		return strconv.FormatUint(v.Uint(), 10)
	case "str":
		return v.String()
	case "bool":
		return v.Bool()
	case "either":
		if d := v.Interface().(Dim); d.IsNamed {
			return map[string]any{"name": d.Name}
		}
		return strconv.FormatUint(v.FieldByName("Size").Uint(), 10)
	case "tuple":
		return tab.tuple(v, kind.Fields)
	case "list":
		return tab.list(v, kind.Of.(string))
	case "dict":
		return tab.dict(v, kind.Of.(string))
	}
	keys := map[string]any{}
	for i, key := range kind.Keys {
		keys[key[0]] = tab.value(v.Field(i), key[1])
	}
	return keys
}

func (tab table) list(v reflect.Value, of string) []any {
	items := []any{}
	for i := range v.Len() {
		items = append(items, tab.value(v.Index(i), of))
	}
	return items
}

func (tab table) dict(v reflect.Value, of string) map[string]any {
	all := map[string]any{}
	for _, key := range v.MapKeys() {
		all[key.String()] = tab.value(v.MapIndex(key), of)
	}
	return all
}
