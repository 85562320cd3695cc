package ringbroker

import (
	"context"

	"ringbroker/internal/wire"
)

// ModelInfo describes a model that the broker serves (spec section 5).
type ModelInfo struct {
	Name     string
	Versions []string
	Pool     string
	Inputs   []TensorInfo
	Outputs  []TensorInfo
	// Dims has the largest size of each dynamic dim but the batch's; 0 where the model sets none, so that opening needs
	// a [Max].
	Dims map[string]int
}

// TensorInfo describes an input or output of a model.
type TensorInfo struct {
	Name      string
	DType     DType // 0 where this version of the client does not know it
	Shape     []Dim // whole, the batch axis included
	BatchAxis int   // which dim counts samples, or -1
}

// Dim is a size, or the name of a dynamic dim.
type Dim struct {
	Size int
	Name string // "" for a size
}

// maxPages is where a listing is taken for one without end (spec section 5).
const maxPages = 1 << 12

// Models lists what the broker serves. Errors: BROKER_LOST; TIMEOUT or CANCELLED at the context's end.
func (c *Client) Models(ctx context.Context) ([]ModelInfo, error) {
	var all []ModelInfo
	err := c.ask(ctx, func(current *conn) *Error {
		all = nil
		return current.list(ctx, func(m *wire.Model) bool {
			all = append(all, describeModel(m))
			return false
		})
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// list reads page after page of the broker's models, until seen says that it has seen enough. What seen is given stays
// as it is.
func (c *conn) list(ctx context.Context, seen func(*wire.Model) bool) *Error {
	page := uint64(0)
	for range maxPages {
		answer, err := c.call(ctx, &call{}, func(id uint64) wire.Message { return &wire.List{ID: id, Page: page} })
		if err != nil {
			return err
		}
		models, ok := answer.(*wire.Models)
		if !ok {
			return c.confused("LIST")
		}
		for i := range models.Models {
			if seen(&models.Models[i]) {
				return nil
			}
		}
		if !models.NextPage.Set {
			return nil
		}
		if models.NextPage.Value <= page {
			break
		}
		page = models.NextPage.Value
	}
	err := badAnswer("the pages of LIST have no end")
	c.end(err)
	return err
}

func describeModel(m *wire.Model) ModelInfo {
	dims := make(map[string]int, len(m.Signature.Dims))
	for name, maximum := range m.Signature.Dims {
		dims[name] = int(maximum.Value)
	}
	return ModelInfo{
		Name: m.Name, Versions: m.Versions, Pool: m.Pool, Dims: dims,
		Inputs: describeTensors(m.Signature.Inputs), Outputs: describeTensors(m.Signature.Outputs),
	}
}

func describeTensors(tensors []wire.Tensor) []TensorInfo {
	all := make([]TensorInfo, len(tensors))
	for i, t := range tensors {
		dtype, _ := ParseDType(t.DType)
		all[i] = TensorInfo{Name: t.Name, DType: dtype, BatchAxis: -1}
		if t.BatchAxis.Set {
			all[i].BatchAxis = int(t.BatchAxis.Value)
		}
		for _, d := range t.Shape {
			all[i].Shape = append(all[i].Shape, Dim{Size: int(d.Size), Name: d.Name})
		}
	}
	return all
}
