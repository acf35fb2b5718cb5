//! Writes a scene as a self-contained SVG.
//!
//! The file contains its style, for light and for dark pages, and loads nothing. No element has an
//! id, and every rule of the style begins with the picture's class, so that one page can contain
//! several pictures.

use super::builder::{Direction, Picture};
use super::color::{Color, ColorBy};
use super::graph::TaskKind;
use super::layout::{self, Layout, Point, RoutePath};
use super::scene::{Scene, SceneBox, SceneEdge};
use super::text::{self, FONT_SIZE, SMALL_FONT_SIZE};
use crate::diagnostics::units;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

/// The colour of edges.
pub(super) const LINE: Color = Color::rgb(0x7a, 0x85, 0x94);
/// The colour of the critical path.
pub(super) const CRITICAL: Color = Color::rgb(0xcf, 0x3a, 0x2b);

const MARGIN: f64 = 20.0;
const PADDING: f64 = 11.0;
const LEAST_WIDTH: f64 = 44.0;
const LINE_HEIGHT: f64 = 16.0;
const SMALL_LINE_HEIGHT: f64 = 13.0;
const TITLE_SIZE: f64 = 15.0;

pub(super) fn write(picture: &Picture, scene: &Scene) -> String {
    let Drawing { map, lines, sizes, labels, layout } = Drawing::of(picture, scene);
    let legend = Legend::of(picture, scene);
    let title = picture.title.as_deref().map(text::in_one_line);
    let drawing = map.size(layout.extent);
    let title_width = title.as_ref().map_or(0.0, |title| text::width(title, TITLE_SIZE).min(600.0));
    let width = drawing.width.max(title_width).max(legend.least_width()) + 2.0 * MARGIN;
    let top = MARGIN + if title.is_some() { TITLE_SIZE + 14.0 } else { 0.0 };
    let legend_top = top + drawing.height + 22.0;
    let height = legend_top + legend.height(width - 2.0 * MARGIN) + MARGIN - 6.0;

    let mut out = SvgWriter(String::new());
    let (w, h) = (number(width.ceil()), number(height.ceil()));
    out.put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"sprang-picture\" role=\"img\" width=\"{w}\" height=\"{h}\" \
         viewBox=\"0 0 {w} {h}\" font-family=\"Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif\" \
         font-size=\"{FONT_SIZE}\" text-anchor=\"middle\">\n"
    ));
    out.element("title", title.as_deref().unwrap_or("A graph of tasks"));
    out.element("desc", &description(picture, scene));
    out.0.push_str(STYLE);
    out.put(format_args!("<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n"));
    if let Some(title) = &title {
        let short = text::cut(title, TITLE_SIZE, width - 2.0 * MARGIN);
        let at = (number(width / 2.0), number(MARGIN + TITLE_SIZE * 0.8));
        out.put(format_args!("<text class=\"title\" x=\"{}\" y=\"{}\" font-size=\"{TITLE_SIZE}\">", at.0, at.1));
        out.text(&short);
        out.put(format_args!("</text>\n"));
    }
    let left = (width - drawing.width) / 2.0;
    out.put(format_args!("<g transform=\"translate({} {})\">\n", number(left), number(top)));
    out.edges(&map, scene, &layout);
    for (((scene_box, lines), &size), &centre) in scene.boxes.iter().zip(&lines).zip(&sizes).zip(&layout.boxes) {
        out.task(scene_box, lines, size, map.point(centre));
    }
    for (route, label) in layout.routes.iter().zip(&labels) {
        if let (Some(at), Some(label)) = (route.label, label) {
            let at = map.point(at);
            out.put(format_args!("<text class=\"count\" x=\"{}\" y=\"{}\">", number(at.x), number(at.y + 3.5)));
            out.text(label);
            out.put(format_args!("</text>\n"));
        }
    }
    out.put(format_args!("</g>\n"));
    legend.write(&mut out, legend_top, width - 2.0 * MARGIN);
    out.put(format_args!("</svg>\n"));
    out.0
}

/// A scene with its positions.
pub(super) struct Drawing<'s> {
    pub(super) map: Orientation,
    pub(super) lines: Vec<Vec<Cow<'s, str>>>,
    pub(super) sizes: Vec<PageSize>,
    /// The label of each edge.
    pub(super) labels: Vec<Option<String>>,
    pub(super) layout: Layout,
}

impl<'s> Drawing<'s> {
    pub(super) fn of(picture: &Picture, scene: &'s Scene) -> Self {
        let map = Orientation { direction: picture.direction };
        let lines: Vec<_> = scene.boxes.iter().map(SceneBox::lines).collect();
        let mut sizes: Vec<PageSize> = lines.iter().map(|lines| size_of_box(lines)).collect();
        align(scene, &mut sizes);
        let labels: Vec<Option<String>> =
            scene.edges.iter().map(|edge| scene.is_collapsed.then(|| units::count(edge.count as u64))).collect();
        let edges: Vec<layout::Edge> = scene
            .edges
            .iter()
            .zip(&labels)
            .map(|(edge, label)| layout::Edge {
                from: edge.from,
                to: edge.to,
                label: label.as_ref().map(|label| {
                    map.extent(PageSize { width: text::width(label, SMALL_FONT_SIZE) + 6.0, height: SMALL_LINE_HEIGHT })
                }),
            })
            .collect();
        let extents: Vec<Point> = sizes.iter().map(|&size| map.extent(size)).collect();
        let layout = layout::layout(&extents, &edges);
        Drawing { map, lines, sizes, labels, layout }
    }
}

const STYLE: &str = "<style>\
.sprang-picture .page{fill:#ffffff}\
.sprang-picture .line{fill:none;stroke:#7a8594;stroke-width:1.2}\
.sprang-picture .head{fill:#7a8594}\
.sprang-picture .order{stroke-dasharray:5 3}\
.sprang-picture .path{stroke:#cf3a2b;stroke-width:2.2}\
.sprang-picture .path-head{fill:#cf3a2b}\
.sprang-picture text{fill:#1b2330}\
.sprang-picture .on-dark{fill:#ffffff}\
.sprang-picture .title{font-weight:bold}\
.sprang-picture .note{font-size:10px}\
.sprang-picture .count{font-size:10px;fill:#465162;stroke:#ffffff;stroke-width:3px;stroke-linejoin:round;paint-order:stroke}\
.sprang-picture .legend{font-size:10px;fill:#566172;text-anchor:start}\
.sprang-picture .sample{fill:none;stroke:#566172}\
@media (prefers-color-scheme:dark){\
.sprang-picture .page{fill:#14181e}\
.sprang-picture .line{stroke:#8e99a8}\
.sprang-picture .head{fill:#8e99a8}\
.sprang-picture .path{stroke:#ff7464}\
.sprang-picture .path-head{fill:#ff7464}\
.sprang-picture .title{fill:#e8ecf2}\
.sprang-picture .count{fill:#ccd4de;stroke:#14181e}\
.sprang-picture .legend{fill:#a9b3c0}\
.sprang-picture .sample{stroke:#a9b3c0}\
}</style>\n";

fn description(picture: &Picture, scene: &Scene) -> String {
    let mut description = scene.summary(picture);
    let mut outputs =
        scene.boxes.iter().filter(|scene_box| scene_box.is_output).map(|scene_box| scene_box.name.as_str());
    if let Some(first) = outputs.next() {
        let _infallible = write!(description, "; output: {first}");
        match outputs.count() {
            0 => {}
            more => _ = write!(description, " and {} more", units::count(more as u64)),
        }
    }
    if scene.path_len > 0 {
        let _infallible = write!(description, "; {}", scene.path_summary(picture));
    }
    description
}

#[derive(Clone, Copy)]
pub(super) struct PageSize {
    pub(super) width: f64,
    pub(super) height: f64,
}

#[derive(Clone, Copy)]
pub(super) struct PagePoint {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// Maps distances along and across the flow to the page.
pub(super) struct Orientation {
    direction: Direction,
}

impl Orientation {
    fn extent(&self, PageSize { width, height }: PageSize) -> Point {
        match self.direction {
            Direction::Down => Point::new(width, height),
            Direction::Right => Point::new(height, width),
        }
    }

    pub(super) fn point(&self, Point { across, along }: Point) -> PagePoint {
        match self.direction {
            Direction::Down => PagePoint { x: across, y: along },
            Direction::Right => PagePoint { x: along, y: across },
        }
    }

    pub(super) fn size(&self, extent: Point) -> PageSize {
        let PagePoint { x, y } = self.point(extent);
        PageSize { width: x, height: y }
    }
}

fn size_of_box<T: AsRef<str>>(lines: &[T]) -> PageSize {
    let font_size = |i: usize| if i == 0 { FONT_SIZE } else { SMALL_FONT_SIZE };
    let widest = lines.iter().enumerate().map(|(i, line)| text::width(line.as_ref(), font_size(i))).fold(0.0, f64::max);
    let height = LINE_HEIGHT + (lines.len() - 1) as f64 * SMALL_LINE_HEIGHT + 12.0;
    PageSize { width: (widest + 2.0 * PADDING).max(LEAST_WIDTH).ceil(), height }
}

/// Gives the boxes of one family one width if their widths are close, so that `step 9` and `step
/// 10` form a column.
fn align(scene: &Scene, sizes: &mut [PageSize]) {
    const CLOSE: f64 = 32.0;
    let mut widest: HashMap<u32, f64> = HashMap::new();
    for (scene_box, size) in scene.boxes.iter().zip(&*sizes) {
        let widest = widest.entry(scene_box.family).or_default();
        *widest = widest.max(size.width);
    }
    for (scene_box, size) in scene.boxes.iter().zip(sizes) {
        let widest = widest[&scene_box.family];
        if widest - size.width < CLOSE {
            size.width = widest;
        }
    }
}

/// The number with at most one decimal.
pub(super) fn number(number: f64) -> String {
    let tenths = (number * 10.0).round() as i64;
    match tenths % 10 {
        0 => (tenths / 10).to_string(),
        _ => format!("{}{}.{}", if tenths < 0 { "-" } else { "" }, tenths.abs() / 10, tenths.abs() % 10),
    }
}

struct SvgWriter(String);

impl SvgWriter {
    fn put(&mut self, arguments: std::fmt::Arguments<'_>) {
        let _infallible = self.0.write_fmt(arguments);
    }

    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '&' => self.0.push_str("&amp;"),
                c if text::is_character(c) => self.0.push(c),
                _ => self.0.push('\u{fffd}'),
            }
        }
    }

    fn element(&mut self, name: &str, content: &str) {
        self.put(format_args!("<{name}>"));
        self.text(content);
        self.put(format_args!("</{name}>\n"));
    }

    /// The critical path is drawn last, above the other edges. All arrow heads of one colour are
    /// one path.
    fn edges(&mut self, map: &Orientation, scene: &Scene, layout: &Layout) {
        for is_critical in [false, true] {
            let mut heads = String::new();
            for (edge, route) in scene.edges.iter().zip(&layout.routes) {
                if edge.is_critical == is_critical {
                    self.edge(map, edge, &route.path, &mut heads);
                }
            }
            if !heads.is_empty() {
                let class = if is_critical { "path-head" } else { "head" };
                self.put(format_args!("<path class=\"{class}\" d=\"{heads}\"/>\n"));
            }
        }
    }

    fn edge(&mut self, map: &Orientation, edge: &SceneEdge, path: &RoutePath, heads: &mut String) {
        let head = match edge.is_critical {
            true => ArrowHead { length: 8.5, half: 4.3 },
            false => ArrowHead { length: 7.0, half: 3.2 },
        };
        let mut data = PathData::new(map);
        match path {
            RoutePath::Through(points) => {
                let [first, .., tip] = points[..] else { return };
                let forward = if tip.along < first.along { -1.0 } else { 1.0 };
                let end = head.put(heads, map, tip, Point::new(0.0, forward));
                let mut points = points.clone();
                points.pop();
                // If the head is longer than the last piece, the turn before it ends at the head.
                while points.len() > 1 && points.last().is_some_and(|last| (last.along - end.along) * forward > 0.0) {
                    points.pop();
                }
                points.push(end);
                data.put_through(&points);
            }
            RoutePath::Loop([start, end, farthest]) => {
                let reach = (farthest.across - start.across) * 4.0 / 3.0;
                let tip = head.put(heads, map, *end, Point::new(-1.0, 0.0));
                data.put("M", &[*start]);
                let controls = [(start, -7.0), (end, 5.0)].map(|(it, by)| Point::new(it.across + reach, it.along + by));
                data.put("C", &[controls[0], controls[1], tip]);
            }
        }
        self.line(edge, &data.text);
    }

    fn line(&mut self, edge: &SceneEdge, d: &str) {
        let path = if edge.is_critical { " path" } else { "" };
        let order = if edge.has_values { "" } else { " order" };
        self.put(format_args!("<path class=\"line{path}{order}\" d=\"{d}\"/>\n"));
    }

    fn task<T: AsRef<str>>(&mut self, scene_box: &SceneBox, lines: &[T], size: PageSize, centre: PagePoint) {
        self.put(format_args!("<g>"));
        self.put(format_args!("<title>"));
        self.text(&tooltip(scene_box));
        self.put(format_args!("</title>"));
        let color = scene_box.color;
        let border = color.darker();
        self.rect(scene_box, size, centre, 0.0);
        self.put(format_args!(" fill=\"{color}\""));
        match scene_box.is_critical {
            true => self.put(format_args!(" stroke=\"{CRITICAL}\" stroke-width=\"2.2\"")),
            false => self.put(format_args!(" stroke=\"{border}\"")),
        }
        if scene_box.kind == TaskKind::Local {
            self.put(format_args!(" stroke-dasharray=\"5 3\""));
        }
        self.put(format_args!("/>"));
        if scene_box.is_output {
            self.rect(scene_box, size, centre, 3.5);
            self.put(format_args!(" fill=\"none\" stroke=\"{}\"/>", color.line_on()));
        }
        let on_dark = if color.is_dark() { "on-dark" } else { "" };
        let mut y = centre.y - (size.height - 12.0) / 2.0;
        for (i, line) in lines.iter().enumerate() {
            let (class, line_height, font_size) =
                if i == 0 { ("", LINE_HEIGHT, FONT_SIZE) } else { ("note", SMALL_LINE_HEIGHT, SMALL_FONT_SIZE) };
            let class = [class, on_dark].join(" ");
            let class = class.trim();
            let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
            let baseline = y + line_height / 2.0 + font_size * 0.35;
            self.put(format_args!("<text{class} x=\"{}\" y=\"{}\">", number(centre.x), number(baseline)));
            self.text(line.as_ref());
            self.put(format_args!("</text>"));
            y += line_height;
        }
        self.put(format_args!("</g>\n"));
    }

    fn rect(&mut self, scene_box: &SceneBox, size: PageSize, centre: PagePoint, inset: f64) {
        let (width, height) = (size.width - 2.0 * inset, size.height - 2.0 * inset);
        let radius = if scene_box.kind == TaskKind::Value { height / 2.0 } else { 6.0 - inset / 2.0 };
        self.put(format_args!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"{}\"",
            number(centre.x - width / 2.0),
            number(centre.y - height / 2.0),
            number(width),
            number(height),
            number(radius)
        ));
    }
}

fn tooltip(scene_box: &SceneBox) -> String {
    let mut tooltip = scene_box.name.clone();
    for note in &scene_box.notes {
        let _infallible = write!(tooltip, "\n{note}");
    }
    let marks = [
        (scene_box.is_output, "an output"),
        (scene_box.kind == TaskKind::Local, "stays in this process"),
        (scene_box.kind == TaskKind::Value, "a value"),
        (scene_box.is_critical, "on the critical path"),
    ];
    for (_, mark) in marks.iter().filter(|(is_so, _)| *is_so) {
        let _infallible = write!(tooltip, "\n{mark}");
    }
    tooltip
}

/// The `d` attribute of a path.
pub(super) struct PathData<'m> {
    map: &'m Orientation,
    pub(super) text: String,
}

impl<'m> PathData<'m> {
    pub(super) fn new(map: &'m Orientation) -> Self {
        PathData { map, text: String::new() }
    }

    pub(super) fn put(&mut self, command: &str, points: &[Point]) {
        self.text.push_str(command);
        for (i, &point) in points.iter().enumerate() {
            let PagePoint { x, y } = self.map.point(point);
            let space = if i == 0 { "" } else { " " };
            let _infallible = write!(self.text, "{space}{} {}", number(x), number(y));
        }
    }

    /// Lines where two points have one position across the flow, and curves elsewhere.
    pub(super) fn put_through(&mut self, points: &[Point]) {
        self.put("M", &points[..points.len().min(1)]);
        for ends in points.windows(2) {
            let (from, to) = (ends[0], ends[1]);
            if (from.across - to.across).abs() < 0.05 {
                self.put("L", &[to]);
            } else {
                let middle = (from.along + to.along) / 2.0;
                self.put("C", &[Point::new(from.across, middle), Point::new(to.across, middle), to]);
            }
        }
    }
}

struct ArrowHead {
    length: f64,
    half: f64,
}

impl ArrowHead {
    /// Adds a head with this tip and direction. Returns the point where the line to it ends.
    fn put(&self, heads: &mut String, map: &Orientation, tip: Point, direction: Point) -> Point {
        let back = |by: f64| Point::new(tip.across - direction.across * by, tip.along - direction.along * by);
        let base = back(self.length);
        let corner = |half: f64| Point::new(base.across + direction.along * half, base.along + direction.across * half);
        let mut data = PathData::new(map);
        [("M", tip), ("L", corner(self.half)), ("L", corner(-self.half))]
            .iter()
            .for_each(|&(command, point)| data.put(command, &[point]));
        heads.push_str(&data.text);
        heads.push('Z');
        back(self.length - 1.0)
    }
}

/// The meaning of the marks that the picture contains.
struct Legend {
    entries: Vec<(LegendMark, String)>,
}

#[derive(Clone, Copy, PartialEq)]
enum LegendMark {
    None,
    Output,
    Local,
    Value,
    Path,
    Order,
    Scale,
}

impl Legend {
    const ENTRY_GAP: f64 = 18.0;
    const ROW: f64 = 16.0;

    fn of(picture: &Picture, scene: &Scene) -> Legend {
        let mut entries = vec![(LegendMark::None, scene.summary(picture))];
        let mut add = |is_used: bool, mark: LegendMark, words: &str| {
            if is_used {
                entries.push((mark, words.to_owned()));
            }
        };
        add(scene.boxes.iter().any(|scene_box| scene_box.is_output), LegendMark::Output, "output");
        add(scene.path_len > 0, LegendMark::Path, &scene.path_summary(picture));
        add(
            scene.boxes.iter().any(|scene_box| scene_box.kind == TaskKind::Local),
            LegendMark::Local,
            "stays in this process",
        );
        add(scene.boxes.iter().any(|scene_box| scene_box.kind == TaskKind::Value), LegendMark::Value, "value");
        add(scene.edges.iter().any(|edge| !edge.has_values), LegendMark::Order, "order only");
        let by_rank = picture.paint.is_none() && picture.color_by == ColorBy::Rank;
        add(by_rank && scene.boxes.len() > 1, LegendMark::Scale, "first to last");
        Legend { entries }
    }

    fn width_of(mark: LegendMark, words: &str) -> f64 {
        let mark_width = match mark {
            LegendMark::None => 0.0,
            LegendMark::Scale => 62.0,
            _ => 27.0,
        };
        mark_width + text::width(words, SMALL_FONT_SIZE)
    }

    fn least_width(&self) -> f64 {
        self.entries.iter().map(|(mark, words)| Legend::width_of(*mark, words)).fold(0.0, f64::max)
    }

    /// The distance from the left and the row of each entry.
    fn places(&self, width: f64) -> Vec<(f64, usize)> {
        let (mut x, mut row) = (0.0, 0);
        let mut places = Vec::with_capacity(self.entries.len());
        for (mark, words) in &self.entries {
            let entry = Legend::width_of(*mark, words);
            if x > 0.0 && x + entry > width {
                (x, row) = (0.0, row + 1);
            }
            places.push((x, row));
            x += entry + Legend::ENTRY_GAP;
        }
        places
    }

    fn height(&self, width: f64) -> f64 {
        (self.places(width).last().map_or(0, |&(_, row)| row) + 1) as f64 * Legend::ROW
    }

    fn write(&self, out: &mut SvgWriter, top: f64, width: f64) {
        for ((mark, words), (x, row)) in self.entries.iter().zip(self.places(width)) {
            let (x, y) = (MARGIN + x, top + row as f64 * Legend::ROW);
            let middle = number(y + 5.5);
            let rect = |inset: f64, more: &str| {
                format!(
                    "<rect class=\"sample\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" {more}/>",
                    number(x + inset),
                    number(y + inset),
                    number(21.0 - 2.0 * inset),
                    number(11.0 - 2.0 * inset)
                )
            };
            let line = |class: &str| {
                format!("<path class=\"line {class}\" d=\"M{} {middle}L{} {middle}\"/>", number(x), number(x + 21.0))
            };
            out.0.push_str(&match mark {
                LegendMark::None => String::new(),
                LegendMark::Output => rect(0.0, "rx=\"3\"") + &rect(2.5, "rx=\"1.5\""),
                LegendMark::Local => rect(0.0, "rx=\"3\" stroke-dasharray=\"4 2\""),
                LegendMark::Value => rect(0.0, "rx=\"5.5\""),
                LegendMark::Path => line("path"),
                LegendMark::Order => line("order"),
                LegendMark::Scale => (0..8).fold(String::new(), |mut bar, i| {
                    let (x, color) = (number(x + f64::from(i) * 7.0), Color::scale(f64::from(i) / 7.0));
                    let _infallible =
                        write!(bar, "<rect x=\"{x}\" y=\"{}\" width=\"7\" height=\"11\" fill=\"{color}\"/>", number(y));
                    bar
                }),
            });
            let words_at = x + Legend::width_of(*mark, "");
            out.put(format_args!("<text class=\"legend\" x=\"{}\" y=\"{}\">", number(words_at), number(y + 9.0)));
            out.text(words);
            out.put(format_args!("</text>\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_have_at_most_one_decimal() {
        assert_eq!(number(12.0), "12");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(-0.26), "-0.3");
        assert_eq!(number(-0.01), "0");
        assert_eq!(number(-3.0), "-3");
    }
}
