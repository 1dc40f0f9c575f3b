package snapshot

import (
	"bufio"
	"slices"
	"testing"
	"time"

	"noyau.dev/host/monitor"
	"noyau.dev/test/internal/pvms"
)

// BenchmarkRestore measures from monitor.Start until a line that the app prints right
// where the snapshot was made.
func BenchmarkRestore(b *testing.B) {
	for _, isolation := range pvms.Names {
		for _, mb := range []string{"16", "256"} {
			b.Run(isolation+" "+mb+" MB", func(b *testing.B) {
				c := config(b, isolation, "template", mb)
				file := save(b, c, "ready")
				c.Hostname, c.Restore = "copy", file
				var out *bufio.Reader
				c.Stdout, out = pvms.Pipe(b)
				for _, warm := range []bool{false, true} {
					name := "new"
					if warm {
						name = "warm"
					}
					b.Run(name, func(b *testing.B) {
						if warm {
							var err error
							if c.Template, err = monitor.NewTemplate(c, 1); err != nil {
								b.Fatal(err)
							}
							defer c.Template.Close()
						}
						var took []time.Duration
						for b.Loop() {
							for warm && c.Template.Ready() == 0 {
								time.Sleep(time.Millisecond)
							}
							t := time.Now()
							r := pvms.Start(b, c)
							pvms.Expect(b, out, 1, "restored")
							took = append(took, time.Since(t))
							r.Kill()
							r.Wait()
						}
						slices.Sort(took)
						b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-median")
						b.ReportMetric(float64(took[0].Microseconds()), "µs-best")
					})
				}
			})
		}
	}
}
