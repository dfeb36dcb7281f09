package sqlstore

import (
	"fmt"
	"sync"
	"testing"

	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// BenchmarkWrite has eight write posts at once, each to somebody else, or all to one
// group of eight.
func BenchmarkWrite(b *testing.B) {
	const writers = 8
	mariadb := relaytest.StartMariaDB(b)
	for name, url := range map[string]string{"sqlite": "sqlite:" + b.TempDir() + "/parley.db", "mariadb": mariadb.NewURL(b)} {
		s := open(b, url)
		var id []int64
		for i := range 2 * writers {
			u, err := s.Users().Create(b.Context(), relay.User{Username: fmt.Sprint("user ", i), Email: fmt.Sprint(i)}, "")
			if err != nil {
				b.Fatal(err)
			}
			id = append(id, u.ID)
		}
		if _, _, err := s.Groups().CreateGroup(b.Context(), relay.Group{Name: "group", Creator: id[0], Members: id[:writers]}, "", nil, nil); err != nil {
			b.Fatal(err)
		}
		for what, write := range map[string]func(w int) error{
			"private": func(w int) error {
				_, _, err := s.Posts().WriteTo(b.Context(), id[2*w], id[2*w+1], "hello", []byte(`{"notification":"new_private_message"}`))
				return err
			},
			"group": func(w int) error {
				_, _, err := s.Posts().WriteToGroup(b.Context(), id[w], "group", "hello", []byte(`{"notification":"new_group_message"}`))
				return err
			},
		} {
			b.Run(name+"/"+what, func(b *testing.B) {
				var wg sync.WaitGroup
				for w := range writers {
					wg.Go(func() {
						for i := w; i < b.N; i += writers {
							if err := write(w); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "posts/s")
			})
		}
	}
}
