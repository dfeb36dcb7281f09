/** Addresses as people see them: a small picture and a short form. */

const SVG = 'http://www.w3.org/2000/svg';

/**
 * A picture that is the same for one address everywhere, and unlikely to be
 * the same for two: five rows of five cells, mirrored, in a colour of its own.
 * @param {string} address
 */
export function portrait(address) {
  const digits = Array.from(address.replaceAll('-', ''), (digit) => parseInt(digit, 16));
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 7 7');
  svg.setAttribute('class', 'portrait');
  svg.setAttribute('aria-hidden', 'true');
  svg.style.setProperty('--hue', String((digits[0] * 256 + digits[1] * 16 + digits[2]) % 360));
  const path = document.createElementNS(SVG, 'path');
  let cells = '';
  for (let row = 0; row < 5; row++) {
    for (let column = 0; column < 3; column++) {
      if (digits[16 + row * 3 + column] % 2) continue;
      cells += `M${1 + column} ${1 + row}h1v1h-1z`;
      if (column < 2) cells += `M${5 - column} ${1 + row}h1v1h-1z`;
    }
  }
  path.setAttribute('d', cells);
  svg.append(path);
  return svg;
}

/**
 * Enough of an address to tell it from others by eye.
 * @param {string} address
 */
export function shortAddress(address) {
  return `${address.slice(0, 8)}…${address.slice(-4)}`;
}
