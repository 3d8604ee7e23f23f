package gauge

import (
	"errors"
	"image/color"
	"os"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const points = 400 // of a line at most

var colors = []color.Color{
	color.RGBA{0x1f, 0x77, 0xb4, 0xff}, color.RGBA{0xd6, 0x27, 0x28, 0xff}, color.RGBA{0x2c, 0xa0, 0x2c, 0xff}, color.RGBA{0x94, 0x67, 0xbd, 0xff},
	color.RGBA{0xff, 0x7f, 0x0e, 0xff}, color.RGBA{0x17, 0xbe, 0xcf, 0xff},
}

// Plot draws all quantities over the time, below each other, into an SVG file.
func (g *Gauge) Plot(path string) (err error) {
	names := g.Names()
	if len(names) == 0 {
		return errors.New("there is nothing to draw")
	}
	begin := time.Now()
	for _, name := range names {
		if samples, _ := g.Samples(name); samples[0].At.Before(begin) {
			begin = samples[0].At
		}
	}
	rows := make([][]*plot.Plot, len(Quantities))
	for n, q := range Quantities {
		p := plot.New()
		p.Title.Text = q.Name
		p.Y.Label.Text = q.Unit
		p.Y.Min = 0
		if n == len(Quantities)-1 {
			p.X.Label.Text = "minutes"
		}
		p.Add(plotter.NewGrid())
		for i, name := range names {
			samples, _ := g.Samples(name)
			line, err := plotter.NewLine(xys(samples, begin, n))
			if err != nil {
				return err
			}
			line.Color = colors[i%len(colors)]
			p.Add(line)
			if n == 0 && len(names) > 1 {
				p.Legend.Add(name, line)
			}
		}
		p.Y.Max *= 1.1
		rows[n] = []*plot.Plot{p}
	}
	canvas := vgsvg.New(24*vg.Centimeter, vg.Length(len(rows))*6*vg.Centimeter)
	tiles := draw.Tiles{Rows: len(rows), Cols: 1, PadY: 4 * vg.Millimeter, PadTop: 2 * vg.Millimeter, PadBottom: 2 * vg.Millimeter, PadLeft: 2 * vg.Millimeter, PadRight: 4 * vg.Millimeter}
	for n, row := range plot.Align(rows, tiles, draw.New(canvas)) {
		rows[n][0].Draw(row[0])
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = canvas.WriteTo(file)
	return errors.Join(err, file.Close())
}

func xys(samples []Sample, begin time.Time, n int) plotter.XYs {
	step := max(1, (len(samples)+points-1)/points)
	var line plotter.XYs
	for i := 0; i < len(samples); i += step {
		line = append(line, plotter.XY{X: samples[i].At.Sub(begin).Minutes(), Y: samples[i].Values[n]})
	}
	return line
}
