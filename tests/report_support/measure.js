// Measures every figure of a report as rendered and leaves the numbers in the document.
const luminance = ([r, g, b]) => {
  const part = [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
};
const rgb = (text) => (text.match(/[\d.]+/g) || [0, 0, 0]).map(Number);
const contrast = (a, b) => {
  const [x, y] = [luminance(a), luminance(b)].sort((m, n) => n - m);
  return (x + 0.05) / (y + 0.05);
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = rgb(getComputedStyle(at).backgroundColor);
    if (color.length < 4 || color[3] > 0) return color;
  }
  return [255, 255, 255];
};
const figure = (svg) => {
  const box = svg.getBoundingClientRect();
  const page = behind(svg);
  const scale = box.width / svg.viewBox.baseVal.width;
  const shapes = [...svg.querySelectorAll("polyline,polygon,rect,line,path,circle")];
  const colors = new Map();
  for (const shape of shapes) {
    const name = shape.getAttribute("class") || "none";
    const style = getComputedStyle(shape);
    const color = style.fill !== "none" && style.stroke === "none" ? style.fill : style.stroke;
    colors.set(name, contrast(rgb(color), page));
  }
  const texts = [...svg.querySelectorAll("text")].map((text) => {
    const place = text.getBoundingClientRect();
    const style = getComputedStyle(text);
    const room = 0.5;
    return {
      words: text.textContent.trim(),
      font: parseFloat(style.fontSize) * scale,
      left: place.left, top: place.top, right: place.right, bottom: place.bottom,
      inside: place.left >= box.left - room && place.right <= box.right + room
        && place.top >= box.top - room && place.bottom <= box.bottom + room,
      contrast: contrast(rgb(style.fill), page),
    };
  });
  const sized = shapes.filter((shape) => {
    const place = shape.getBoundingClientRect();
    return place.width > 0 || place.height > 0;
  });
  return { id: svg.id, width: box.width, height: box.height, shapes: sized.length, colors: [...colors], texts };
};
const prose = () => {
  let worst = [21, ""];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || element.closest("svg,script,style")) continue;
    const found = contrast(rgb(getComputedStyle(element).color), behind(element));
    if (found < worst[0]) worst = [found, walker.currentNode.textContent.trim()];
  }
  return worst;
};
const measured = {
  figures: [...document.querySelectorAll("figure div.wide > svg")].map(figure),
  prose: prose(),
  overflows: document.documentElement.scrollWidth > window.innerWidth,
  fetched: performance.getEntriesByType("resource").length,
  background: getComputedStyle(document.body).backgroundColor,
};
const out = document.createElement("pre");
out.id = "measured";
out.textContent = JSON.stringify(measured);
document.body.append(out);
