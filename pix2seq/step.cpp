// One step of the Pix2Seq decoder: the last token of every image in, its hidden state out.
//
// `pix2seq.native` compiles this file for the processor at hand, with -DDIM=... and so on for the
// model's shape. The chapter "Native" shows it region by region.

// region: constants
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>
#include <omp.h>

#ifndef DIM                               // for an editor, which opens this file without options
#define DIM 256                           // width of the residual stream
#define HEADS 8                           // attention heads
#define WIDE 1024                         // width of the MLP
#define EPS 1e-6f                         // of the layer norms
#define Weight float                      // or int8_t, with a scale for each row
#endif

static_assert(DIM % 4 == 0 && WIDE % 4 == 0, "dimensions must be multiples of four");
static_assert(std::min({DIM, WIDE, HEADS}) > 0, "dimensions must be positive");
static_assert(DIM % HEADS == 0, "the heads must share the dimensions equally");
static_assert(std::max(DIM, WIDE) <= 65536, "dimensions must be at most 65536");
constexpr int HEAD = DIM/HEADS;           // width of one head

// region: layout
struct Norm { const float *weight, *bias; };
template <class W> struct Linear {
    const W* weight;                      // [OUT, IN]
    const float *scale, *bias;            // [OUT], [OUT]; float weights have no scale: nullptr
};
struct Layer {
    Norm norm1, norm2, norm3;
    Linear<Weight> query_key_value, own_output, image_query, image_output, widen, narrow;
};
struct Cache { float *keys, *values; };   // each [B, HEADS, places, HEAD]

// region: product
inline const float* as_floats(const float* weights, float*, int) { return weights; }
inline const float* as_floats(const int8_t* weights, float* buffer, int n) {
    for (int i = 0; i < n; i++) buffer[i] = weights[i];
    return buffer;
}

// Call store(b, row, W x + b) for every sequence b and every row; there must be at least four rows.
template <int IN, class W, class Store>
void linear(const Linear<W>& p, const float* x, int64_t batch, int rows, Store store) {
    float buffer[4*IN];
    #pragma omp for schedule(static)
    for (int start = 0; start < rows; start += 4) {
        const int row = std::min(start, rows - 4);   // the last group may overlap the one before
        const float* w = as_floats(p.weight + int64_t(row)*IN, buffer, 4*IN);
        for (int64_t b = 0; b < batch; b++) {
            const float* v = x + b*IN;
            float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
            #pragma omp simd reduction(+:s0,s1,s2,s3)
            for (int i = 0; i < IN; i++) {
                s0 += w[i]*v[i];
                s1 += w[IN + i]*v[i];
                s2 += w[2*IN + i]*v[i];
                s3 += w[3*IN + i]*v[i];
            }
            const float sums[] = {s0, s1, s2, s3};
            for (int r = 0; r < 4; r++) {
                const float scale = p.scale ? p.scale[row + r] : 1;
                store(b, row + r, scale*sums[r] + p.bias[row + r]);
            }
        }
    }
}

// region: norm
inline float gelu(float y) { return y/2*(1 + std::erf(y*.707106781f)); }

void norm(const Norm& p, const float* x, float* y, int64_t batch) {
    for (int64_t b = 0; b < batch; b++, x += DIM, y += DIM) {
        float mean = 0, variance = 0;
        #pragma omp simd reduction(+:mean)
        for (int i = 0; i < DIM; i++) mean += x[i]/DIM;
        #pragma omp simd reduction(+:variance)
        for (int i = 0; i < DIM; i++) variance += (x[i] - mean)*(x[i] - mean);
        const float scale = 1/std::sqrt(variance/DIM + EPS);
        for (int i = 0; i < DIM; i++) y[i] = (x[i] - mean)*scale*p.weight[i] + p.bias[i];
    }
}

// region: attention
inline float exponential(float x) {       // e^x for x <= 0; NaN stays NaN
    const float t = std::max(-87.f, x)*1.44269504f;   // in powers of two; NaN becomes -87
    const float n = std::nearbyint(t), f = (t - n)*.693147181f;
    union { int32_t bits; float number; } power;
    power.bits = (int32_t(n) + 127) << 23;            // 2^n, written into the exponent's bits
    const float rest = 1/6.f + f*(1/24.f + f*(1/120.f + f/720));
    const float y = power.number*(1 + f*(1 + f*(.5f + f*rest)));
    return x == x ? y : x;
}

// One head of one sequence: softmax(query keys^T) values over `length` places.
void attend(const float* query, const float* keys, const float* values, int64_t length,
            float* score, float* out) {
    float top = -INFINITY, total = 0, sum[HEAD] = {};
    for (int64_t t = 0; t < length; t++) {
        float s = 0;
        #pragma omp simd reduction(+:s)
        for (int i = 0; i < HEAD; i++) s += query[i]*keys[t*HEAD + i];
        score[t] = s/std::sqrt(float(HEAD));
        top = std::max(top, score[t]);
    }
    #pragma omp simd reduction(+:total)
    for (int64_t t = 0; t < length; t++) total += score[t] = exponential(score[t] - top);
    for (int64_t t = 0; t < length; t++)
        for (int i = 0; i < HEAD; i++) sum[i] += score[t]*values[t*HEAD + i];
    for (int i = 0; i < HEAD; i++) out[i] = sum[i]/total;
}

// region: step
constexpr int64_t LIMIT = 1 << 30;        // of images and places: products of sizes fit 64 bits

// All layers for one token of each sequence; `x`, [batch, DIM], is changed in place.
// Returns 0 when done; 1 for sizes that cannot be, 2 without memory, and then nothing was done.
extern "C" int step(const Layer* layers, int count, float* x, int64_t batch, int64_t position,
                    const Cache* pasts, int64_t places, const Cache* images, int64_t cells,
                    int threads) {
    if (std::min({batch, position, cells}) < 0 || position >= places) return 1;
    if (std::max({batch, places, cells}) > LIMIT) return 1;
    threads = std::min(std::max(threads, 1), 1024);
    const int64_t own = (batch*DIM + std::max(places, cells) + 15)/16*16;   // floats of a thread
    std::vector<float> buffer;
    try { buffer.resize(batch*(2*DIM + WIDE) + threads*own); } catch (...) { return 2; }
    float *query = buffer.data(), *attended = query + batch*DIM, *wide = attended + batch*DIM;
    #pragma omp parallel num_threads(threads)
    {
        float* h = wide + batch*WIDE + omp_get_thread_num()*own;
        float* score = h + batch*DIM;
        auto add = [&](int64_t b, int i, float y) { x[b*DIM + i] += y; };
        auto to_query = [&](int64_t b, int i, float y) { query[b*DIM + i] = y; };
        auto to_cache = [&](float* cache, int64_t b, int i, float y) {
            cache[((b*HEADS + i/HEAD)*places + position)*HEAD + i % HEAD] = y;
        };
        auto to_wide = [&](int64_t b, int i, float y) { wide[b*WIDE + i] = gelu(y); };
        auto attend_to = [&](const Cache& cache, int64_t stride, int64_t length) {
            #pragma omp for schedule(static)
            for (int64_t i = 0; i < batch*HEADS; i++)
                attend(query + i*HEAD, cache.keys + i*stride*HEAD, cache.values + i*stride*HEAD,
                       length, score, attended + i*HEAD);
        };
        for (int l = 0; l < count; l++) {
            const Layer& p = layers[l];
            norm(p.norm1, x, h, batch);
            linear<DIM>(p.query_key_value, h, batch, 3*DIM, [&](int64_t b, int i, float y) {
                if (i < DIM) to_query(b, i, y);
                else to_cache(i < 2*DIM ? pasts[l].keys : pasts[l].values, b, i % DIM, y);
            });
            attend_to(pasts[l], places, position + 1);
            linear<DIM>(p.own_output, attended, batch, DIM, add);
            norm(p.norm2, x, h, batch);
            linear<DIM>(p.image_query, h, batch, DIM, to_query);
            attend_to(images[l], cells, cells);
            linear<DIM>(p.image_output, attended, batch, DIM, add);
            norm(p.norm3, x, h, batch);
            linear<DIM>(p.widen, h, batch, WIDE, to_wide);
            linear<WIDE>(p.narrow, wide, batch, DIM, add);
        }
    }
    return 0;
}

// region: head
// The last product: hidden states [batch, DIM] to logits [batch, rows]. Returns as `step` does.
extern "C" int head(const float* weight, const float* bias, const float* x, float* y,
                    int64_t batch, int64_t rows, int threads) {
    if (std::min(batch, rows) < 0 || std::max(batch, rows) > LIMIT) return 1;
    if (rows < 4) {                       // too few for `linear`
        for (int64_t b = 0; b < batch; b++)
            for (int64_t row = 0; row < rows; row++) {
                float sum = 0;
                for (int i = 0; i < DIM; i++) sum += weight[row*DIM + i]*x[b*DIM + i];
                y[b*rows + row] = sum + bias[row];
            }
        return 0;
    }
    threads = std::min(std::max(threads, 1), 1024);
    const Linear<float> p = {weight, nullptr, bias};
    auto store = [&](int64_t b, int row, float value) { y[b*rows + row] = value; };
    #pragma omp parallel num_threads(threads)
    linear<DIM>(p, x, batch, int(rows), store);
    return 0;
}
